// Tables and plots of what was measured. Writes beside its input, prints the table as Markdown.
//   node report.mjs results.json    the comparison of compare.mjs: the table, and results.svg
//   node report.mjs NAME.csv        a line per position and window, as bora-model bench writes it: the table of the last
//                                   positions, and NAME.svg with time and cache over the position
import { readFileSync, writeFileSync } from 'node:fs'
import { barPlot, linePlot } from './svg.mjs'

const path = process.argv[2]
if (!/\.(json|csv)$/.test(path ?? '')) throw new Error('usage: node report.mjs results.json|NAME.csv')

const digits = (value) => value >= 1000 ? value.toFixed(0) : value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
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
      `(bora: ${set.bora_cpu}; llama.cpp: ${set.peer_backend}, flash attention ${set.flash.value}, mmap ${set.mmap.value} at the start). ` +
      `Median of ${set.rounds.length} rounds (lowest-highest); in brackets behind "read" GB/s that a plain loop read right before and after.`, '',
    row(['', 'bora', 'read', 'llama.cpp', 'read', 'bora / llama.cpp']), row(['---', '--:', '--:', '--:', '--:', '--:']))
    for (const { name, unit, better, bora, peer, ratio, read } of set.figures)
      lines.push(row([`${name}, ${unit}${better === 'less' ? ' (less is better)' : ''}`, spread(bora), digits(read.bora.median), spread(peer),
        digits(read.peer.median), spread(ratio)]))
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

// Columns are known by their names: position, window, ms..., kv_bytes.
function windows(csv) {
  const [head, ...rows] = csv.split('\n').map((line) => line.trim()).filter((line) => line && !line.startsWith('#')).map((line) => line.split(','))
  const column = (pattern) => {
    const at = head.findIndex((name) => pattern.test(name.trim()))
    if (at < 0) throw new Error(`'${path}' has no column like ${pattern}`)
    return at
  }
  const [position, window, ms, bytes] = [/^position/, /^window/, /^ms/, /^kv/i].map(column)
  const curves = new Map()
  for (const cells of rows) {
    const numbers = [position, ms, bytes].map((i) => Number(cells[i]))
    if (numbers.some(Number.isNaN)) throw new Error(`'${path}': not a number in '${cells.join(',')}'`)
    const name = /^(0|none)$/.test(cells[window].trim()) ? 'no window' : `window ${cells[window].trim()}`
    if (!curves.has(name)) curves.set(name, [])
    curves.get(name).push(numbers)
  }
  if (curves.size === 0) throw new Error(`'${path}' has no rows`)
  for (const points of curves.values()) points.sort((a, b) => a[0] - b[0])
  const of = (i, scale) => [...curves].map(([name, points]) => ({ name, points: points.map((point) => [point[0], point[i] * scale]) }))
  const lines = [row(['', 'position', 'ms per token', 'KV cache MiB']), row(['---', '--:', '--:', '--:'])]
  for (const [name, points] of curves)
    for (const [at, time, size] of new Set([points[0], points.at(-1)]))
      lines.push(row([name, at, digits(time), digits(size / 2 ** 20)]))
  return {
    table: lines.join('\n') + '\n',
    plot: linePlot([{ title: 'Time', unit: 'ms per token', curves: of(1, 1) }, { title: 'KV cache', unit: 'MiB', curves: of(2, 2 ** -20) }], 'position')
  }
}

const input = readFileSync(path, 'utf8')
const { table, plot } = path.endsWith('.json') ? comparison(JSON.parse(input)) : windows(input)
writeFileSync(path.replace(/\.(json|csv)$/, '.svg'), plot)
process.stdout.write(table)
