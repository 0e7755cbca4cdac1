// Tables and plots of what was measured: node report.mjs INPUT [DOCUMENT.md]
//   results.json    what compare.mjs wrote: a table of each model and instruction set, bars of the speeds
//   NAME.csv        what bora-model bench --csv or window.sh printed, for one or several windows: medians at each position,
//                   and curves of a sequence's time and cache over the position
// The table is printed, the plot written beside INPUT with the end .svg. With a document, the table goes into it between
// <!-- NAME --> and <!-- /NAME -->, NAME being INPUT's without its end, and the plot beside the document.
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { mean, median } from './figures.mjs'
import { barPlot, linePlot } from './svg.mjs'

const [path, document] = process.argv.slice(2)
if (!/\.(json|csv)$/.test(path ?? '')) throw new Error('usage: node report.mjs results.json|NAME.csv [DOCUMENT.md]')

const digits = (value) => value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
const spread = ({ median, min, max }) => `${digits(median)} (${digits(min)}-${digits(max)})`
const row = (cells) => `| ${cells.join(' | ')} |`

function comparison(results) {
  const lines = [
    `${results.date}, ${results.machine}, ${results.system}; bora ${results.bora}; llama.cpp ${results.peer.release} ` +
    `(commit ${results.peer.commit.slice(0, 9)}, ${results.peer.binding}); ${results.options.threads} threads each.`,
    '', `    ${results.command}`
  ]
  for (const set of results.sets) {
    lines.push('', `**${set.model}, ${set.cpu === 'avx2' ? 'AVX2 on both sides' : 'all that the processor has'}** ` +
      `(bora: ${set.bora_cpu}; llama.cpp: the build for ${set.peer_backend}, flash attention ${set.flash.value}, mmap ${set.mmap.value} at the start). ` +
      `bora: attention ${set.bora_engine.attention}, cache ${set.bora_engine.cache} (${set.bora_engine.kv_type}), experts ${set.bora_engine.expert}. ` +
      `Both say ${set.same_first_token ? 'the same' : 'another'} first token.`, '',
    row(['', 'bora', 'beside: read', 'llama.cpp', 'beside: read', 'bora / llama.cpp']), row(['---', '--:', '--:', '--:', '--:', '--:']))
    for (const { name, unit, better, bora, peer, ratio, read, share } of set.figures) {
      const beside = (engine) => digits(read[engine].median) + (share ? `; ${(100 * share[engine].median).toFixed(0)} %` : '')
      lines.push(row([`${name}, ${unit}${better === 'less' ? ' (less is better)' : ''}`, spread(bora), beside('bora'), spread(peer),
        beside('peer'), spread(ratio)]))
    }
    const shares = set.rounds.flatMap((round) => Object.values(round).flatMap((tasks) => Object.values(tasks).map(({ cpu_share }) => cpu_share)))
    if (mean(shares) < 0.9)
      lines.push('', `Others used the processors meanwhile (probes had only ${(100 * mean(shares)).toFixed(0)} % of their time): figures are lower than the machine's.`)
  }
  const speeds = results.sets[0].figures.filter(({ unit }) => unit === 'tokens/s')
  const panels = speeds.map(({ name, unit }) => ({
    title: name, unit,
    groups: results.sets.map((set) => {
      const { bora, peer } = set.figures.find((figure) => figure.name === name)
      return { name: `${set.model.replace(/\.gguf$/, '')} ${set.cpu}`, values: [bora, peer] }
    })
  }))
  return { table: lines.join('\n') + '\n', plot: barPlot(panels, ['bora', `llama.cpp ${results.peer.release}`]) }
}

// Several runs, one after the other, each with its heading. One sequence alone is plotted over the context it stands at.
function windows(csv) {
  const lines = csv.split('\n').map((line) => line.trim()).filter(Boolean)
  const [head] = lines
  const columns = ['window', 'context', 'batch', 'step_seconds', 'sequence_bytes'].map((name) => head.split(',').indexOf(name))
  if (columns.includes(-1)) throw new Error(`'${path}' does not begin as bora-model bench --csv does`)
  const curves = new Map()
  for (const line of lines.filter((other) => other !== head)) {
    const [window, context, batch, seconds, bytes] = columns.map((i) => Number(line.split(',')[i]))
    if (![window, context, batch, seconds, bytes].every(Number.isFinite)) throw new Error(`'${path}': no number in '${line}'`)
    if (batch !== 1) continue
    const name = window ? `window of ${window}` : 'no window'
    if (!curves.has(name)) curves.set(name, new Map())
    const times = curves.get(name)
    if (!times.has(context)) times.set(context, { bytes, ms: [] })
    times.get(context).ms.push(seconds * 1e3)
  }
  if (curves.size === 0) throw new Error(`'${path}' has no row of one sequence`)
  for (const [name, times] of curves) // a position that comes again: the median
    curves.set(name, [...times].map(([context, { bytes, ms }]) => [context, median(ms), bytes]).sort((a, b) => a[0] - b[0]))
  const of = (i, scale) => [...curves].map(([name, points]) => ({ name, points: points.map((point) => [point[0], point[i] * scale]) }))
  const table = [row(['', 'position', 'ms per token', 'KV cache MiB']), row(['---', '--:', '--:', '--:'])]
  for (const [name, points] of curves)
    for (const [at, time, size] of points)
      table.push(row([name, at, digits(time), digits(size / 2 ** 20)]))
  return {
    table: table.join('\n') + '\n',
    plot: linePlot([{ title: 'Time', unit: 'ms per token', curves: of(1, 1) }, { title: 'KV cache', unit: 'MiB', curves: of(2, 2 ** -20) }], 'position')
  }
}

const input = readFileSync(path, 'utf8')
const { table, plot } = path.endsWith('.json') ? comparison(JSON.parse(input)) : windows(input)
const name = basename(path).replace(/\.(json|csv)$/, '')
writeFileSync(join(dirname(document ?? path), `${name}.svg`), plot)
if (document) {
  const before = readFileSync(document, 'utf8'), begin = `<!-- ${name} -->\n`, end = `<!-- /${name} -->`
  const from = before.indexOf(begin), to = before.indexOf(end, from)
  if (from < 0 || to < 0) throw new Error(`'${document}' has no ${begin.trim()} and ${end}`)
  writeFileSync(document, `${before.slice(0, from)}${begin}${table}\n![${name}](${name}.svg)\n${before.slice(to)}`)
} else process.stdout.write(table)
