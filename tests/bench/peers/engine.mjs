// llama.cpp in this process, by node-llama-cpp. Measurements go past that package's scheduler and sampler, straight to
// the calls of its addon that stand for llama_batch_init, common_batch_add and llama_decode: what is timed is llama_decode
// with the logits of a sequence's last token, as llama-bench does it. These calls are not the package's public interface,
// therefore fetch.sh pins its version.
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

// folder: where fetch.sh put things; cpu: 'native' or 'avx2'. Returns the engine and what it is.
export async function openEngine(folder, cpu) {
  const root = resolve(folder, cpu === 'avx2' ? 'avx2' : '.', 'node_modules')
  const { getLlama } = await import(pathToFileURL(join(root, 'node-llama-cpp/dist/index.js')))
  const before = process.hrtime.bigint()
  let backend = ''
  const llama = await getLlama({
    gpu: false, build: 'never', skipDownload: true, progressLogs: false, logLevel: 'log',
    logger: (level, text) => {
      backend = /loaded CPU backend from .*libggml-cpu-(\w+)\.so/.exec(text)?.[1] ?? backend
      if (level === 'error' || level === 'fatal') process.stderr.write(text)
    }
  })
  const { version } = JSON.parse(readFileSync(join(root, 'node-llama-cpp/package.json'), 'utf8'))
  const bundle = readFileSync(join(root, 'node-llama-cpp/llama/gitRelease.bundle')).subarray(0, 200).toString('latin1')
  const about = {
    engine: 'llama.cpp',
    release: llama.llamaCppRelease.release,
    commit: /\n([0-9a-f]{40}) HEAD/.exec(bundle)?.[1] ?? 'unknown',
    binding: `node-llama-cpp ${version}, node ${process.versions.node}`,
    backend: () => backend, // is told through the logger, later
    features: [...llama.systemInfo.matchAll(/(\w+) = 1/g)].map(([, name]) => name)
  }
  return { llama, about, before }
}

// One llama_decode: parts are [sequence, first position, tokens].
export async function decode(context, parts) {
  const addon = context._ctx
  addon.initBatch(parts.reduce((n, [, , tokens]) => n + tokens.length, 0))
  for (const [sequence, first, tokens] of parts)
    addon.addToBatch(sequence, first, Uint32Array.from(tokens), Uint32Array.of(tokens.length - 1))
  await addon.decodeBatch()
}

export function forget(context, sequence) {
  context._ctx.disposeSequence(sequence)
}

export const elapsedMs = (since) => Number(process.hrtime.bigint() - since) / 1e6

// MiB of a process: its own, of mapped files, and the most of both so far.
export function memoryOf(process_id) {
  const status = readFileSync(`/proc/${process_id}/status`, 'utf8')
  const mib = (field) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)[1]) / 1024
  return { anon_mib: mib('RssAnon'), file_mib: mib('RssFile'), peak_mib: mib('VmHWM') }
}

// The same token ids for every run: pieces that any vocabulary of 2,000 or more has.
export function tokenIds(n) {
  const ids = []
  for (let i = 0, x = 12345; i < n; i++) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0
    ids.push(300 + ((x >>> 8) % 1700))
  }
  return ids
}
