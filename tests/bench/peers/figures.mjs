// From the runs in results.json to figures. A figure is a list of values, one per round, of each engine.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length
export const summary = (values) => ({ median: median(values), min: Math.min(...values), max: Math.max(...values) })

// Of the rounds of one model and one instruction set: [{ name, unit, better: 'more'|'less', bora, peer, ratio, read, share }].
// bora, peer, read.bora, read.peer: summaries over the rounds. ratio: summary of bora/peer of each round, as the two of a
// round ran next to each other. share: of what was read beside it in what decoding has to read; only decoding has it.
export function figuresOf(rounds) {
  const batches = Object.keys(rounds[0].peer.speed.result.decode_tokens_s)
  const weightBytes = (n) => rounds[0].bora.speed.result.weight_bytes[n]
  const figure = (name, unit, better, task, value, bytesPerUnit) => {
    const of = (engine) => rounds.map((round) => value(round[engine][task].result))
    const reads = (engine) => rounds.map((round) => mean(round[engine][task].read_gb_s))
    const share = (engine) => summary(of(engine).map((x, i) => (x * bytesPerUnit) / (reads(engine)[i] * 1e9)))
    const bora = of('bora'), peer = of('peer')
    return {
      name, unit, better, bora: summary(bora), peer: summary(peer), ratio: summary(bora.map((x, i) => x / peer[i])),
      read: { bora: summary(reads('bora')), peer: summary(reads('peer')) },
      ...(bytesPerUnit && { share: { bora: share('bora'), peer: share('peer') } })
    }
  }
  return [
    figure('prefill', 'tokens/s', 'more', 'speed', (result) => result.prefill_tokens_s),
    ...batches.map((n) => figure(n === '1' ? 'decode, one client' : `decode, ${n} clients together`, 'tokens/s', 'more', 'speed',
      (result) => result.decode_tokens_s[n], weightBytes(n) / Number(n))),
    figure('start to first token', 'ms', 'less', 'start', (result) => result.first_token_ms),
    figure('resident, private', 'MiB', 'less', 'start', (result) => result.anon_mib),
    figure('resident, with mapped files', 'MiB', 'less', 'start', (result) => result.anon_mib + result.file_mib)
  ]
}
