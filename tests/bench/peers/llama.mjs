// llama.cpp's figures of one run, as one line of JSON: node llama.mjs TASK FOLDER MODEL [NAME=VALUE...]
//   speed    ms of prefill=256 tokens and of decode=16 steps of each of batch=1,8 sequences, repeats=3 times
//   start    ms from loading the library to the first token after a prompt of prefill=8 tokens, and MiB then
// Others: cpu=native|avx2, threads=2, flash=auto|on|off, context=4096 (a sequence's, of start), mmap=on|off
import { decode, elapsedMs, forget, memoryOf, openEngine, tokenIds } from './engine.mjs'
import { mean, median } from './figures.mjs'

const usage = 'usage: node llama.mjs speed|start FOLDER MODEL [NAME=VALUE...]'
const [task, folder, model, ...settings] = process.argv.slice(2)
if (!['speed', 'start'].includes(task) || !model) throw new Error(usage)
const options = {
  cpu: 'native', threads: '2', flash: 'auto', context: '4096', mmap: 'on',
  prefill: task === 'speed' ? '256' : '8', decode: '16', batch: '1,8', repeats: '3'
}
for (const setting of settings) {
  const [name, value] = setting.split('=')
  if (!(name in options) || !value) throw new Error(`unknown setting '${setting}'`)
  options[name] = value
}
const number = (name) => Number(options[name])
const batches = options.batch.split(',').map(Number)
const nSequences = task === 'speed' ? Math.max(...batches) : 1

const node = memoryOf('self') // what the interpreter takes by itself: left out of the figures, as its start is
const { llama, about, before } = await openEngine(folder, options.cpu)
const loaded = await llama.loadModel({
  modelPath: model, gpuLayers: 0, useMmap: options.mmap === 'on', ignoreMemorySafetyChecks: true
})
const context = await loaded.createContext({
  // Speed needs room for what is run, of every sequence: they have an equal share of the cache.
  contextSize: task === 'speed' ? Math.max(number('prefill'), number('decode')) : number('context'),
  sequences: nSequences, batchSize: Math.max(number('prefill'), nSequences, 512), threads: number('threads'),
  flashAttention: { auto: 'auto', on: true, off: false }[options.flash], ignoreMemorySafetyChecks: true
})
context._ctx.setThreads(number('threads'))
const ids = tokenIds(Math.max(number('prefill'), 1024))
const prompt = ids.slice(0, number('prefill'))

async function prefillMs() {
  forget(context, 0)
  const since = process.hrtime.bigint()
  await decode(context, [[0, 0, prompt]])
  return elapsedMs(since)
}

// A step for each token that n sequences get.
async function decodeMs(n) {
  const sequences = Array.from({ length: n }, (_, i) => i)
  for (const s of sequences) forget(context, s)
  const steps = []
  for (let position = 0; position < number('decode'); position++) {
    const since = process.hrtime.bigint()
    await decode(context, sequences.map((s) => [s, position, [ids[(s * 31 + position) % ids.length]]]))
    steps.push(elapsedMs(since))
  }
  return steps
}

const result = { task, options }
if (task === 'start') {
  await decode(context, [[0, 0, prompt]])
  const sampler = new llama._bindings.AddonSampler(loaded._model)
  sampler.applyConfig({ temperature: 0 })
  result.token = await context._ctx.sampleToken(prompt.length - 1, sampler)
  result.first_token_ms = elapsedMs(before)
  result.process_ms = process.uptime() * 1000
  const now = memoryOf('self')
  result.anon_mib = now.anon_mib - node.anon_mib
  result.file_mib = now.file_mib - node.file_mib
} else {
  await decodeMs(nSequences) // pages, threads
  result.prefill_ms = []
  result.decode_ms = Object.fromEntries(batches.map((n) => [n, []]))
  for (let i = 0; i < number('repeats'); i++) {
    result.prefill_ms.push(await prefillMs())
    for (const n of batches) result.decode_ms[n].push(await decodeMs(n))
  }
  result.prefill_tokens_s = (1000 * prompt.length) / median(result.prefill_ms)
  result.decode_tokens_s = Object.fromEntries(batches.map((n) => [n, (1000 * n) / median(result.decode_ms[n].map(mean))]))
}
result.engine = { ...about, backend: about.backend() }
console.log(JSON.stringify(result))
process.exit(0) // without the package's clean-up
