// Plots as plain SVG text.

const COLOURS = ['#1f6f8b', '#d9822b', '#6a994e', '#9b5de5', '#bc4749', '#6c757d']
const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c])
const text = (x, y, words, anchor = 'middle', more = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}"${more}>${escape(words)}</text>`
const line = (x1, y1, x2, y2, colour = '#ccc') =>
  `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="${colour}"/>`

// Round steps from 0 to at least max, about n of them.
export function ticks(max, n = 5) {
  if (!(max > 0)) return [0, 1]
  const raw = max / n, power = 10 ** Math.floor(Math.log10(raw))
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= raw * 0.999)
  return Array.from({ length: Math.ceil(max / step - 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(12)))
}

const short = (value) => value >= 1e6 ? `${value / 1e6}M` : value >= 1e4 ? `${value / 1e3}k` : String(value)

// A frame at x, y with its horizontal lines. Returns the text and where values lie.
function frame(x, y, width, height, maxY, title, unit) {
  const steps = ticks(maxY), top = steps.at(-1)
  const atY = (value) => y + height - (value / top) * height
  const parts = [text(x, y - 14, `${title}, ${unit}`, 'start', ' font-weight="bold"')]
  for (const value of steps) parts.push(line(x, atY(value), x + width, atY(value)), text(x - 6, atY(value) + 4, short(value), 'end'))
  return { parts, atY }
}

function legend(x, y, names) {
  let at = x
  return names.map((name, i) => {
    const part = `<rect x="${at}" y="${y - 9}" width="12" height="10" fill="${COLOURS[i % COLOURS.length]}"/>${text(at + 17, y, name, 'start')}`
    at += 30 + 7 * name.length
    return part
  })
}

const picture = (width, height, parts) =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">\n` +
  `<rect width="${width}" height="${height}" fill="white"/>\n${parts.join('\n')}\n</svg>\n`

// Groups of bars in panels side by side. panels: [{ title, unit, groups: [{ name, values: [{ median, min, max }] }] }]; names:
// of a group's bars. A thin line spans min to max.
export function barPlot(panels, names) {
  const width = 260, height = 220, gap = 70, left = 110, top = 70
  const parts = legend(left, 24, names)
  panels.forEach(({ title, unit, groups }, p) => {
    const x = left + p * (width + gap)
    const { parts: grid, atY } = frame(x, top, width, height, Math.max(...groups.flatMap(({ values }) => values.map(({ max }) => max))), title, unit)
    parts.push(...grid)
    const room = width / groups.length, bar = Math.min(40, (room * 0.8) / names.length)
    groups.forEach(({ name, values }, g) => {
      const first = x + g * room + (room - bar * values.length) / 2
      values.forEach(({ median, min, max }, v) => {
        const at = first + v * bar, middle = at + bar / 2
        parts.push(`<rect x="${at.toFixed(1)}" y="${atY(median).toFixed(1)}" width="${(bar - 2).toFixed(1)}" height="${(top + height - atY(median)).toFixed(1)}" fill="${COLOURS[v]}"/>`,
          line(middle, atY(min), middle, atY(max), '#333'))
      })
      const middle = x + (g + 0.5) * room
      parts.push(text(middle + 4, top + height + 16, name, 'end', ` transform="rotate(-30 ${middle.toFixed(1)} ${top + height + 12})"`))
    })
  })
  return picture(left + panels.length * (width + gap), top + height + 110, parts)
}

// Curves in panels side by side. panels: [{ title, unit, curves: [{ name, points: [[x, y]] }] }], the same names in each.
export function linePlot(panels, xName) {
  const width = 380, height = 240, gap = 80, left = 70, top = 70
  const parts = legend(left, 24, panels[0].curves.map(({ name }) => name))
  panels.forEach(({ title, unit, curves }, p) => {
    const x = left + p * (width + gap), points = curves.flatMap((curve) => curve.points)
    const { parts: grid, atY } = frame(x, top, width, height, Math.max(...points.map(([, value]) => value)), title, unit)
    const stepsX = ticks(Math.max(...points.map(([value]) => value))), atX = (value) => x + (value / stepsX.at(-1)) * width
    parts.push(...grid)
    for (const value of stepsX) parts.push(text(atX(value), top + height + 18, short(value)))
    parts.push(text(x + width / 2, top + height + 38, xName))
    curves.forEach(({ points: own }, c) => parts.push(`<polyline fill="none" stroke="${COLOURS[c % COLOURS.length]}" stroke-width="2" points="` +
      `${own.map(([a, b]) => `${atX(a).toFixed(1)},${atY(b).toFixed(1)}`).join(' ')}"/>`))
  })
  return picture(left + panels.length * (width + gap), top + height + 60, parts)
}
