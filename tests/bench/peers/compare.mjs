// The same model files through bora and llama.cpp, by turns. node compare.mjs BUILD FOLDER MODEL... [NAME=VALUE...]
//   rounds=5 cpu=native,avx2 threads=N prefill=256 decode=16 batch=1,8 repeats=1 context=4096 plugins=KIND=NAME:KIND=NAME
// FOLDER is where fetch.sh put llama.cpp; results.json is written there. Each round runs both engines, the one that was
// first in a round is second in the next, and reads of memory are timed before and after every run. llama.cpp gets the
// settings it does best with: flash attention on or off, and weights mapped or read, are tried before the rounds.
import { execFileSync, spawnSync } from 'node:child_process'
import { createReadStream, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { boraSpeed, boraStart, boraVersion, readProbe } from './bora.mjs'
import { figuresOf, mean } from './figures.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const [build, folder, ...words] = process.argv.slice(2)
const options = {
  rounds: '5', cpu: 'native,avx2', threads: String(availableParallelism()), prefill: '256', decode: '16', batch: '1,8',
  repeats: '1', context: '4096', plugins: ''
}
const models = []
for (const word of words) {
  const [, name, value] = /^(\w+)=(.*)$/.exec(word) ?? []
  if (name === undefined) models.push(word)
  else if (name in options) options[name] = value
  else throw new Error(`unknown setting '${word}'`)
}
if (models.length === 0) throw new Error('usage: node compare.mjs BUILD FOLDER MODEL... [NAME=VALUE...]')

function llama(task, model, settings) {
  const given = Object.entries(settings).map(([name, value]) => `${name}=${value}`)
  const output = execFileSync(process.execPath, [join(here, 'llama.mjs'), task, folder, model, ...given],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26 })
  return JSON.parse(output)
}

const common = (cpu) => ({ cpu, threads: options.threads })
const speedSettings = (cpu) => ({ ...common(cpu), prefill: options.prefill, decode: options.decode, batch: options.batch, repeats: options.repeats })

// The value of a setting with which llama.cpp takes the least time, and the times of all: the better of two each, by turns.
function best(values, time) {
  const tried = Object.fromEntries(values.map((value) => [value, Infinity]))
  for (const value of [...values, ...values]) tried[value] = Math.min(tried[value], time(value))
  return { tried, value: values.reduce((a, b) => (tried[b] < tried[a] ? b : a)) }
}

function bestSettings(model, cpu) {
  const flash = best(['on', 'off'], (value) => {
    const { prefill_tokens_s, decode_tokens_s } = llama('speed', model, { ...speedSettings(cpu), repeats: 1, flash: value })
    return Number(options.prefill) / prefill_tokens_s + Object.values(decode_tokens_s).reduce((sum, x) => sum + Number(options.decode) / x, 0)
  })
  const mmap = best(['on', 'off'], (value) => llama('start', model, { ...common(cpu), context: options.context, mmap: value }).first_token_ms)
  return { flash, mmap }
}

async function intoPageCache(path) {
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 22 })) void chunk
}

// A run with reads of memory before and after it.
async function beside(run) {
  const before = readProbe(build, options)
  const result = await run()
  const probes = [before, readProbe(build, options)]
  return { result, read_gb_s: probes.map(({ gb_s }) => gb_s), cpu_share: mean(probes.map(({ cpu_share }) => cpu_share)) }
}

const say = (line) => process.stderr.write(`${line}\n`)
const results = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus()[0].model}, ${availableParallelism()} cores`,
  command: `compare.mjs ${words.map((word) => (models.includes(word) ? basename(word) : word)).join(' ')}`,
  options, bora: boraVersion(build), peer: undefined, sets: []
}
const kernel = spawnSync('uname', ['-r'], { encoding: 'utf8' }).stdout.trim()
results.system = `Linux ${kernel}`

for (const model of models) {
  await intoPageCache(model)
  for (const cpu of options.cpu.split(',')) {
    say(`${basename(model)}, ${cpu}: what llama.cpp does best with`)
    const { flash, mmap } = bestSettings(model, cpu)
    const rounds = []
    for (let round = 0; round < Number(options.rounds); round++) {
      say(`${basename(model)}, ${cpu}: round ${round + 1} of ${options.rounds}`)
      const engines = {
        bora: {
          speed: () => boraSpeed(build, model, cpu, options),
          start: () => boraStart(build, model, cpu, options)
        },
        peer: {
          speed: () => llama('speed', model, { ...speedSettings(cpu), flash: flash.value }),
          start: () => llama('start', model, { ...common(cpu), context: options.context, flash: flash.value, mmap: mmap.value })
        }
      }
      const order = round % 2 ? ['peer', 'bora'] : ['bora', 'peer']
      const done = { bora: {}, peer: {} }
      for (const task of ['speed', 'start'])
        for (const engine of order) done[engine][task] = await beside(engines[engine][task])
      rounds.push(done)
    }
    results.peer ??= rounds[0].peer.speed.result.engine
    results.sets.push({
      model: basename(model), cpu, flash, mmap, peer_backend: rounds[0].peer.speed.result.engine.backend,
      bora_cpu: rounds[0].bora.speed.result.instructions, bora_engine: rounds[0].bora.speed.result.engine,
      same_first_token: rounds.every(({ bora, peer }) => bora.start.result.token === peer.start.result.token), figures: figuresOf(rounds), rounds
    })
    writeFileSync(join(folder, 'results.json'), JSON.stringify(results, null, 1)) // what there is, should a later one fail
  }
}
process.stdout.write(execFileSync(process.execPath, [join(here, 'report.mjs'), join(folder, 'results.json')], { encoding: 'utf8' }))
