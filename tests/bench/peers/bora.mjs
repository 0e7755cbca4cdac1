// bora for measurements and comparisons: its tool, and a private daemon in a folder of its own.
import { execFile, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'

const run = promisify(execFile)

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
    memory() {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
      const mib = (field) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)[1]) / 1024
      return { anon_mib: mib('RssAnon'), file_mib: mib('RssFile'), peak_mib: mib('VmHWM') }
    }
  }
}
