// bora for measurements and comparisons: its tool, and a private daemon in a folder of its own.
import { execFile, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { elapsedMs, memoryOf, tokenIds } from './engine.mjs'

const run = promisify(execFile)
const tiny = resolve(dirname(fileURLToPath(import.meta.url)), '../../../models/bora-tiny/bora-tiny-q8_0.gguf')

// What bora-model prints; environment is added to ours.
export function boraModel(build, words, environment = {}) {
  return execFileSync(join(build, 'bin/bora-model'), words, {
    encoding: 'utf8', env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26
  })
}

// A daemon that serves the model: the promise is kept when it listens. options: more words of its command line.
export async function startDaemon(build, model, options = [], environment = {}) {
  const folder = mkdtempSync('/tmp/bora-peers-') // short: it is a part of the socket's path
  const socket = join(folder, 'bora.sock')
  const since = process.hrtime.bigint()
  const words = ['--config', 'none', '--model', model, '--socket', socket, '--database', join(folder, 'sessions.db'), ...options]
  const child = spawn(join(build, 'bin/borad'), words, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...environment } })
  const ended = new Promise((done) => child.on('close', done))
  const said = []
  const ready = new Promise((done, failed) => {
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on('line', (line) => {
        said.push(line)
        if (line.includes('listening on')) done()
      })
    child.on('error', failed)
    ended.then(() => failed(new Error(`borad did not start: ${said.slice(-5).join('\n')}`)))
  })
  const stop = async () => {
    child.kill()
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await ready
  } catch (problem) {
    await stop()
    throw problem
  }
  return {
    since, stop,
    // The continuation of token ids, greedily: [{ id, logprob }]
    async complete(ids, n) {
      const { stdout } = await run(join(build, 'bin/bora'), [
        'complete', '--socket', socket, '--json', '--temp', '0', '-n', String(n), '--tokens', ids.join(',')])
      return stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line)).filter(({ event }) => event === 'token')
    },
    memory: () => memoryOf(child.pid)
  }
}

const firstLine = (text) => text.split('\n')[0]

export const boraVersion = (build) => firstLine(boraModel(build, ['--version'])).replace(/^\S+ /, '')

const environmentOf = (cpu) => (cpu === 'avx2' ? { BORA_CPU: 'avx2' } : {})
// 'expert=quant:attention=flash' as [['expert', 'quant'], ['attention', 'flash']]
const pluginsOf = ({ plugins }) => plugins.split(':').filter(Boolean).map((plugin) => plugin.split('='))

// From the start of a daemon to the first token after a prompt of 8 tokens, and MiB then: what a client sees, starting of
// both processes included.
export async function boraStart(build, model, cpu, options) {
  const words = ['--threads', options.threads, '--set', `engine.context=${options.context}`,
    ...pluginsOf(options).flatMap(([kind, name]) => ['--plugin', `${kind}=${name}`])]
  const daemon = await startDaemon(build, model, words, environmentOf(cpu))
  try {
    const ready_ms = elapsedMs(daemon.since)
    const [{ token }] = await daemon.complete(tokenIds(8), 1)
    return { ready_ms, first_token_ms: elapsedMs(daemon.since), token, ...daemon.memory() }
  } finally {
    await daemon.stop()
  }
}

const bench = (build, words, environment) => JSON.parse(boraModel(build, ['bench', ...words, '--json'], environment))

// Tokens per second; weight_bytes: read per step, of each number of clients.
export function boraSpeed(build, model, cpu, options) {
  const { machine, engine, prefill, decode } = bench(build, [
    model, '--prompt', options.prefill, '--steps', options.decode, '--batch', options.batch, '--context', '0', '--rounds', options.repeats,
    '--threads', options.threads, ...pluginsOf(options).flatMap(([kind, name]) => ['--plugin', `${kind}=${name}`])
  ], environmentOf(cpu))
  const byBatch = (key) => Object.fromEntries(decode.map((entry) => [entry.batch, entry[key]]))
  return {
    instructions: machine.instructions, engine, prefill_tokens_s: prefill.tokens_per_second,
    decode_tokens_s: byBatch('tokens_per_second'), weight_bytes: byBatch('weight_bytes')
  }
}

// How fast as many threads read memory now, in GB/s: what bora-model bench finds while it measures a very small model.
export function readProbe(build, { threads }) {
  const { limits } = bench(build, [tiny, '--prompt', '1', '--steps', '1', '--batch', '1', '--context', '0', '--rounds', '3', '--threads', threads])
  return { gb_s: limits.read_bytes_per_second / 1e9, cpu_share: limits.cpu_share }
}
