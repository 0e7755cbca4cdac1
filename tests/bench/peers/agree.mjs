// Do llama.cpp and bora understand the same files alike? bora-model converts the small model of the repository; both
// read the file, cut texts into tokens, and judge the greedy continuations of chats. One line per check: "ok - NAME", "not ok - NAME".
// Usage: node agree.mjs BUILD FOLDER; FOLDER is where fetch.sh put llama.cpp
//
// Chats stay shorter than the model's window of 256 positions: llama.cpp knows no window in files of this architecture.
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { boraModel, startDaemon } from './bora.mjs'
import { openEngine } from './engine.mjs'

const [build, peers] = process.argv.slice(2)
if (!peers) throw new Error('usage: node agree.mjs BUILD FOLDER')
const source = resolve(dirname(fileURLToPath(import.meta.url)), '../../models/bora-tiny')
const N_TOKENS = 24
// Both round activations, each in its own way; this much may the logarithms of their probabilities differ, and where two
// tokens are as close as that, either may be chosen. A key or a weight misread costs far more.
const TYPES = { f16: 0.004, q8_0: 0.1 }

const chats = ['My name is Anna.', 'What is the capital of France?', 'What does ls do?', 'How much is 3 + 4?',
  'Tell me a story about a cat.', 'Repeat: red green blue.']
const texts = [...chats, ' two  blanks,\nand a line', 'Größe, naïve, 水, 🙂', '1234567890', '[INST] is no control here </s>', 'x']

let failed = false
function check(name, good, detail) {
  console.log(`${good ? 'ok' : 'not ok'} - ${name}`)
  if (!good) console.log(detail.replace(/^/gm, '  '))
  failed ||= !good
}

// Ids in the lines of bora-model tokenize.
const idsOf = (output) => output.split('\n').filter(Boolean).map((line) => Number.parseInt(line, 10))

// What llama.cpp thinks of bora's continuation: at each of its tokens the one it would choose, and the logarithms of the
// probabilities of both.
async function judge(context, ids, ours) {
  const sequence = context.getSequence()
  const options = { temperature: 0, yieldEogToken: true }
  const iterator = sequence.evaluateWithMetadata(ids, { probabilities: true }, options)
  const judged = []
  for (let i = 0, forced; i < ours.length; forced = ours[i++]) {
    const { value } = await iterator.next(forced)
    const logprob = (token) => Math.log(value.probabilities.get(token) ?? 0)
    judged.push({ best: value.token, bestLogprob: logprob(value.token), logprob: logprob(ours[i]) })
  }
  await iterator.return()
  await sequence.dispose()
  return judged
}

const folder = mkdtempSync('/tmp/bora-agree-')
try {
  const { llama, about } = await openEngine(peers, 'native')
  for (const [type, nats] of Object.entries(TYPES)) {
    const file = join(folder, `${type}.gguf`)
    boraModel(build, ['convert', source, file, '--type', type])
    const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 })
    const context = await model.createContext({ contextSize: 256, sequences: 1, threads: 2 })

    const split = texts.filter((text) => boraModelIds(file, text).join() !== [...model.tokenize(text, false)].join())
    check(`${type}: the same tokens of ${texts.length} texts`, split.length === 0,
      split.map((text) => `${JSON.stringify(text)}: ${boraModelIds(file, text)} and ${model.tokenize(text, false)}`).join('\n'))

    const daemon = await startDaemon(build, file)
    let worst = 0, nTokens = 0
    const ties = [], differences = []
    for (const text of chats) {
      const chat = join(folder, 'chat.json')
      writeFileSync(chat, JSON.stringify([{ role: 'user', content: text }]))
      const ids = idsOf(boraModel(build, ['tokenize', file, '--chat', chat]))
      const ours = await daemon.complete(ids, N_TOKENS)
      const theirs = await judge(context, ids, ours.map(({ token }) => token))
      for (const [i, { token, logprob }] of ours.entries()) {
        const { best, bestLogprob, logprob: theirLogprob } = theirs[i]
        worst = Math.max(worst, Math.abs(logprob - theirLogprob))
        if (best === token) continue
        const lead = bestLogprob - theirLogprob
        ;(lead < nats ? ties : differences).push(`${text} token ${i}: bora ${token}, llama.cpp ${best}, ${lead.toFixed(4)} nats ahead`)
      }
      nTokens += ours.length
    }
    await daemon.stop()
    await model.dispose()
    check(`${type}: ${nTokens} greedy tokens of ${chats.length} chats are the same${ties.length ? `, but for ${ties.length} ties` : ''}`,
      differences.length === 0 && ties.length * 20 <= nTokens && nTokens > 40, [...differences, ...ties].join('\n'))
    check(`${type}: probabilities within ${nats} nats (${worst.toFixed(5)})`, worst < nats, 'they differ by more')
  }

  // The same weights with a Tekken vocabulary. llama.cpp's pattern for it does not count combining marks among letters.
  const tekken = join(folder, 'tekken'), golden = resolve(source, '../../golden/tekken')
  mkdirSync(tekken)
  for (const name of ['params.json', 'consolidated.safetensors']) copyFileSync(join(source, name), join(tekken, name))
  copyFileSync(join(golden, 'small.json'), join(tekken, 'tekken.json'))
  boraModel(build, ['convert', tekken, `${tekken}.gguf`, '--type', 'f16'])
  const model = await llama.loadModel({ modelPath: `${tekken}.gguf`, gpuLayers: 0 })
  const known = readFileSync(join(golden, 'small-encode.jsonl'), 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line))
    .filter(({ text }) => !/\p{M}/u.test(text))
  const other = known.filter(({ text, ids }) => [...model.tokenize(text, false)].join() !== ids.join())
  check(`tekken: the same tokens of ${known.length} texts`, other.length === 0 && known.length > 300,
    other.map(({ text, ids }) => `${JSON.stringify(text)}: ${ids} and ${model.tokenize(text, false)}`).join('\n'))
  console.log(`bora and llama.cpp ${about.release} (${about.commit.slice(0, 9)}, ${about.backend()})`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
process.exit(failed ? 1 : 0)

function boraModelIds(file, text) {
  return idsOf(boraModel(build, ['tokenize', file, text]))
}
