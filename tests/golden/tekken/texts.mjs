// The texts that are encoded for golden data: of every kind that a tokenizer meets, and mixtures of them.
//
// JavaScript's \s has U+FEFF and lacks U+0085, other than in the reference, so that no text here has those.
export const texts = [
  // the least there is
  '', 'a', ' ', '\n', '0', '.', 'é', '日', '🙂', '\0', '\x7f', '\u00a0', '\ufffd',
  // words and their spaces
  'Hello', ' Hello', 'Hello world', 'Hello  world', ' Hello world ', 'hello, world!', 'HelloWorld', 'helloWorld',
  'HELLO WORLD', 'HTTPServer', 'XMLHttpRequest', 'iPhone iOS macOS', 'McDonald', 'a b c d e', 'the the the',
  "I'm you're he'll it's we've they'd don't", "O'Reilly's", '"quoted" \'single\' `back`', 'e-mail co-operate re-use',
  'Straße STRASSE ẞ', 'Ǆ ǅ ǆ', 'ªº', 'ﬁ ﬂ', 'İstanbul ırmak', 'ΑΒΓ αβγ ς', 'x'.repeat(40), 'ab'.repeat(33),
  'supercalifragilisticexpialidocious', 'antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis',
  // digits, one token each
  '1', '12', '123', '1234567890', '3.14159', '1,000,000.00', '2024-07-18T12:34:56Z', '0xDEADBEEF', '1e-9', 'v1.2.3',
  '٠١٢٣٤٥٦٧٨٩', '½ ¼ ¾', 'Ⅷ Ⅻ', '①②③', 'x1y2z3', '+49 (0)30 123456', '10^100', '१२३',
  // white space
  '  ', '   ', '    ', '     ', ' '.repeat(16), ' '.repeat(17), ' '.repeat(63), ' '.repeat(127), ' '.repeat(128),
  ' '.repeat(300), '\t', '\t\t', '\t\t\t\tx', ' \t \t ', '\n\n', '\n\n\n', '\r\n', '\r\n\r\n', '\r', ' \n', '\n ',
  ' \n \n ', '   \n', '\n   ', '  \n  x', 'x  \n', 'x \n y', 'a\tb', 'a\n\nb', 'a\r\nb', '\v\f', 'a\u00a0b',
  'a\u2003b', 'a\u3000b', '\u2028x\u2029y', '\u200bx', 'x\u200d\u200cy', '\u1680x', '\n'.repeat(50), '\t'.repeat(70),
  ' a', '  a', '   a', '    a', '  1', '  .', ' \n.', '.\n', '...\n\n', '!\r\n', '//\n', '/\n/', 'a /\n', ' \u00a0 x',
  // languages
  'Le cœur déçu mais l’âme plutôt naïve, Louÿs rêva de crapaüter en canoë.',
  'Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.',
  'El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío.',
  'Luís argüia à Júlia que «brações, fé, chá, óxido, pôr, zângão» eram palavras.',
  'Pchnąć w tę łódź jeża lub ośm skrzyń fig.', 'Příliš žluťoučký kůň úpěl ďábelské ódy.',
  'Pijamalı hasta yağız şoföre çabucak güvendi.', 'Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.',
  'Съешь же ещё этих мягких французских булок, да выпей чаю.', 'Жебракують філософи при ґанку церкви.',
  'דג סקרן שט בים מאוכזב ולפתע מצא חברה', 'شِلَوْمٌ', 'نص حكيم له سر قاطع وذو شأن عظيم', 'یک متن فارسی با نیم‌فاصله',
  'ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश', 'বাংলা ভাষা', 'தமிழ் மொழி', 'తెలుగు', 'ಕನ್ನಡ', 'മലയാളം',
  'เป็นมนุษย์สุดประเสริฐเลิศคุณค่า', 'ພາສາລາວ', 'မြန်မာဘာသာ', 'ភាសាខ្មែរ', 'ქართული ენა', 'Հայերեն լեզու', 'አማርኛ ቋንቋ',
  'いろはにほへと ちりぬるを', '色は匂へど散りぬるを', 'カタカナとひらがな、漢字。', '天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。',
  '我能吞下玻璃而不伤身体。', '키스의 고유조건은 입술끼리 만나야 하고', '가각간', 'Tiếng Việt có dấu: ạ ả ấ ầ', 'ᚠᚢᚦᚨᚱᚲ',
  'ᎠᎡᎢ', 'ꦗꦮ', '𐍈𐌰𐌿', '𝒜𝓫𝖈', '中文English混合text', 'Ἀριστοτέλης', 'Þórður', 'Æthelred', 'ŋaːŋ',
  // combining marks, and characters of several code points
  'e\u0301', 'E\u0301tude', 'n\u0303', 'Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!', '\u0301', ' \u0301', 'a\u0301\u0302\u0303b',
  '🙂🙃', '👍🏽', '👨‍👩‍👧‍👦', '🇫🇷🇩🇪', '❤️', '🏴󠁧󠁢󠁳󠁣󠁴󠁿', 'text🙂text', ' 🙂 ', '🙂🙂🙂🙂🙂', '☃ ☂ ★', '→ ← ⇒', '𝄞', '\u{1f9ff}', '\u{10ffff}', '\ue000',
  // marks
  '!', '!!', '?!', '...', '…', '—', '–', '« »', '“x”', '(a)', '[b]', '{c}', '<d>', '((()))', '#hash @at $5 %x ^ & * ~',
  '-----', '=====', '*****', '_____', '/////', '\\\\\\', '|||', ':::', ';;;', "'''", '```', '€ £ ¥ ₹', '©®™', '§¶†‡', '°C',
  'a/b/c', '/usr/local/bin', 'C:\\Users\\x', 'https://example.com/path?query=1&x=y#frag', 'user@example.com', 'a.b.c', '-1',
  // code
  'int main(void)\n{\n    return 0;\n}\n', '#include <stdio.h>\n\n/* comment */\n', 'for (int i = 0; i < n; i++) {\n\tx += a[i];\n}',
  'def f(x):\n    """Doc."""\n    return x ** 2\n\n\nclass A(B):\n    pass\n', 'const f = async (x) => { await x; }; // tail',
  'SELECT * FROM t WHERE a = \'b\' AND c <> 1;', '<html>\n  <body class="x">\n  </body>\n</html>', '{"a": [1, 2.5, null], "b": {"c": true}}',
  'fn main() { println!("{}", 1 + 2); }', 'x = {\n        "deep": {\n            "deeper": 1\n        }\n}', '$ ls -la | grep "^d" > out.txt 2>&1',
  'if [ -z "${X:-}" ]; then exit 1; fi', '\\begin{align} x &= y^2 \\\\ \\end{align}', '# Title\n\n- item\n- item\n\n1. one\n2. two\n\n**bold** _it_',
  '#!/bin/sh\nset -eu\n', '\t\tif (a && !b || c)\r\n\t\t\treturn;\r\n', 'snake_case_name camelCaseName PascalCaseName CONSTANT_NAME', 'a->b::c<d>()',
  // what looks like control tokens
  '<s>', '</s>', '<unk>', '<pad>', '[INST]', '[/INST]', '[INST] Hello [/INST]', '<s>[INST] x [/INST] y</s>', '[AVAILABLE_TOOLS]',
  '[/AVAILABLE_TOOLS]', '[TOOL_CALLS]', '[TOOL_RESULTS]', '[/TOOL_RESULTS]', '[PREFIX]', '[MIDDLE]', '[SUFFIX]', '[SYSTEM_PROMPT]',
  '<SPECIAL_14>', '<SPECIAL_999>', '<|endoftext|>', '<|im_start|>user', '<0x0A>', '▁', '▁Hello▁world', 'Ġ', 'ĠHello',
]

// Pieces of all of these in an order that only looks random, so that every kind meets every other.
let state = 20240718n
export const random = (n) => {
  state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn
  return Number((state >> 33n) % BigInt(n))
}
const parts = [...texts]
for (let i = 0; i < 120; i++) {
  let text = ''
  for (let n = 2 + random(6); n > 0; n--) {
    const points = [...parts[random(parts.length)]]
    const start = random(points.length || 1)
    text += points.slice(start, start + 1 + random(24)).join('')
  }
  texts.push(text)
}
// Characters of every block that has names, a few at a time.
for (let i = 0; i < 60; i++) {
  let text = ''
  while ([...text].length < 24) {
    const character = String.fromCodePoint(random(i < 40 ? 0x3000 : 0x20000))
    if (/[\p{L}\p{N}\p{P}\p{S}\p{M}\p{Zs}]/u.test(character) && !/[\ud800-\udfff]/u.test(character)) text += character
  }
  texts.push(text)
}
