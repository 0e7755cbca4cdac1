// Are the figures and the reports right? On made-up runs. One line per check: "ok - NAME", "not ok - NAME".
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { figuresOf, mean, median } from './figures.mjs'
import { ticks } from './svg.mjs'

const report = join(dirname(fileURLToPath(import.meta.url)), 'report.mjs')
let failed = false
function check(name, got, expected) {
  const good = JSON.stringify(got) === JSON.stringify(expected)
  console.log(`${good ? 'ok' : 'not ok'} - ${name}`)
  if (!good) console.log(`  expected ${JSON.stringify(expected)}\n  got      ${JSON.stringify(got)}`)
  failed ||= !good
}

check('the median of an odd and an even number of values', [median([9, 1, 5]), median([4, 1, 2, 9])], [5, 3])
check('the mean', mean([1, 2, 6]), 3)
check('steps of a scale', [ticks(7), ticks(0.031), ticks(5000)], [[0, 2, 4, 6, 8], [0, 0.01, 0.02, 0.03, 0.04], [0, 1000, 2000, 3000, 4000, 5000]])

// Rounds in which the speeds wander together: bora is 2, 2 and 4 times as fast, whatever the medians are.
const speeds = [[10, 5, 40], [100, 50, 40], [40, 10, 20]]
const rounds = speeds.map(([bora, peer, read]) => {
  const run = (speed, anon_mib) => ({
    speed: { result: { prefill_tokens_s: 10 * speed, decode_tokens_s: { 1: speed, 8: 4 * speed }, weight_bytes: { 1: 1e8, 8: 1e8 } }, read_gb_s: [read - 1, read + 1], cpu_share: 0.95 },
    start: { result: { first_token_ms: 1000 / speed, anon_mib, file_mib: 50 }, read_gb_s: [read, read], cpu_share: 1 - read / 100 }
  })
  return { bora: run(bora, 100), peer: run(peer, 400) }
})
const figures = figuresOf(rounds)
const named = (name) => figures.find((figure) => figure.name === name)
check('a speed', named('decode, one client').bora, { median: 40, min: 10, max: 100 })
check('a ratio is one of each round', named('prefill').ratio, { median: 2, min: 2, max: 4 })
check('a time', named('start to first token').ratio, { median: 0.5, min: 0.25, max: 0.5 })
check('memory', [named('resident, private').peer.median, named('resident, with mapped files').bora.median], [400, 150])
check('the share of the read beside it', named('decode, one client').share.bora.median, 0.1 * 40 / 20)
check('the same of steps of 8', named('decode, 8 clients together').share.peer.max, 0.1 * 4 * 50 / 8 / 40)
check('prefill has no such share', named('prefill').share, undefined)

const folder = mkdtempSync('/tmp/bora-report-')
const run = (...words) => execFileSync(process.execPath, [report, ...words], { encoding: 'utf8' })
const refused = (...words) => /Error: (.*)/.exec(spawnSync(process.execPath, [report, ...words], { encoding: 'utf8' }).stderr)?.[1]
// Every element is closed, and no number is one that no program draws.
const sound = (svg) => !/NaN|undefined|Infinity/.test(svg) && svg.split('<text').length === svg.split('</text>').length && svg.endsWith('</svg>\n')
try {
  const results = join(folder, 'results.json'), plot = join(folder, 'results.svg'), document = join(folder, 'document.md')
  const set = { model: 'a&b.gguf', cpu: 'avx2', flash: { value: 'on' }, mmap: { value: 'off' }, peer_backend: 'haswell', bora_cpu: 'avx2', figures, rounds,
    bora_engine: { attention: 'A', cache: 'C', kv_type: 'f16', expert: 'E' }, same_first_token: true }
  writeFileSync(results, JSON.stringify({ date: '2000-01-01', machine: 'M', system: 'S', command: 'run', bora: '1', options: { threads: '2' },
    peer: { release: 'R', commit: '0123456789abcdef', binding: 'B' }, sets: [set, { ...set, cpu: 'native' }] }))
  const table = run(results)
  check('a row of the table', table.split('\n').find((line) => line.startsWith('| decode, one')),
    '| decode, one client, tokens/s | 40.0 (10.0-100) | 40.0; 20 % | 10.0 (5.00-50.0) | 40.0; 5 % | 2.00 (2.00-4.00) |')
  check('that others used the machine', table.split('Others used the processors meanwhile (probes had only 81 % of their time)').length, 3)
  check('a table of each set', table.split('| prefill').length, 3)
  const svg = readFileSync(plot, 'utf8')
  check('bars: two engines, two sets, three speeds', [sound(svg), svg.split('<rect').length - 1, svg.includes('a&amp;b')], [true, 1 + 2 + 12, true])

  const csv = join(folder, 'window.csv'), head = 'window,context,batch,step_seconds,sequence_bytes,more\n'
  writeFileSync(csv, `${head}0,1024,1,0.2,2097152,x\n0,0,1,0.1,1048576,x\n0,0,8,0.9,1048576,x\n${head}64,0,1,0.1,1048576,x\n64,1024,1,0.11,1048576,x\n`)
  check('the ends of the curves', run(csv).split('\n').slice(2, -1), ['| no window | 0 | 100 | 1.00 |', '| no window | 1024 | 200 | 2.00 |',
    '| window of 64 | 0 | 100 | 1.00 |', '| window of 64 | 1024 | 110 | 1.00 |'])
  const curves = readFileSync(join(folder, 'window.svg'), 'utf8')
  check('two curves of two things', [sound(curves), curves.split('<polyline').length - 1], [true, 4])

  writeFileSync(document, 'before\n<!-- results -->\nold\n<!-- /results -->\n<!-- window -->\nstays\n<!-- /window -->\nafter\n')
  run(results, document)
  const once = readFileSync(document, 'utf8')
  run(results, document)
  check('into a document, and again', [once === readFileSync(document, 'utf8'), once.includes(table), /^before[^]*stays[^]*after\n$/.test(once), once.includes('old')],
    [true, true, true, false])
  writeFileSync(document, 'nothing\n')
  check('a document without a place for it', refused(results, document), `'${document}' has no <!-- results --> and <!-- /results -->`)
  writeFileSync(csv, `${head}0,here,1,1,1,x\n`)
  check('a line without a number', refused(csv), `'${csv}': no number in '0,here,1,1,1,x'`)
  writeFileSync(csv, 'a,b\n')
  check('another table', refused(csv), `'${csv}' does not begin as bora-model bench --csv does`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
process.exit(failed ? 1 : 0)
