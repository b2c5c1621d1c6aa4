// coverage.mjs FILE [--lines N] [--branches N]: the report of scripts/coverage.sh.
//
// FILE is gcovr's JSON. Per room: lines and branches. Of core: every line and branch that
// was not reached, as file:line. Not counted in core: branches of HP_ASSERT (one of them
// ends the process), the way past a switch that has a case for every value, and lines that
// end in
//
//     /* uncovered: REASON */
//
// which must be unreachable by construction. Each is printed with its reason; one that was
// reached after all, or has no reason, is an error. Of the other rooms: the lines that were
// not reached, as ranges, under the kind of code they are.
// Exits 1 when core has fewer than --branches % or the engine fewer than --lines %.
import { readFileSync } from 'node:fs'

const [file, ...words] = process.argv.slice(2)
const wanted = (name) => { const i = words.indexOf(name); return i < 0 ? null : Number(words[i + 1]) }
const ROOMS = ['base', 'core', 'script', 'net', 'store', 'testing', 'plugin', 'runtime', 'api', 'cli']
const percent = (part, all) => all === 0 ? 100 : 100 * part / all
const shown = (part, all) => `${part}/${all} ${(Math.floor(percent(part, all) * 10) / 10).toFixed(1)} %`

// The lines of each HP_ASSERT(…); a condition may take several.
function assertions(source) {
  const found = new Set()
  for (let i = 0; i < source.length; i++) {
    if (!/\bHP_ASSERT\(/.test(source[i])) continue
    let end = i
    while (!/\);\s*(\/\*.*)?$/.test(source[end]) && end < source.length - 1) end++
    for (; i <= end; i++) found.add(i + 1)
    i--
  }
  return found
}

// "None of the cases" of a switch without `default`: -Wswitch (an error in check-deep)
// wants a case for each value of the enum, so there is no value that comes by here.
function noCase(source, line) {
  const first = source[line - 1]
  if (!/^\s*switch \(/.test(first)) return false
  const indent = /^\s*/.exec(first)[0]
  let end = line
  while (source[end] !== `${indent}}`) end++
  return !source.slice(line, end).some((l) => l.startsWith(`${indent}default:`))
}

// Why a line was not reached, as far as its text says so.
function kind(text, whole) {
  if (whole) return 'functions that no test calls'
  if (/HP_E_NOMEM|no memory|nomem/.test(text)) return 'no memory (make torture fails each allocation)'
  if (/HP_E_IO|strerror|refuse\(|_exit\(/.test(text)) return 'a system call fails (make torture fails each)'
  if (/HP_E_INTERNAL|abort\(/.test(text)) return 'a bug of ours (HP_E_INTERNAL)'
  if (/^(return -1|goto \w+|return NULL|return false|break|continue|\} else|else);?/.test(text)) return 'ways out after an error'
  return 'other lines'
}

const rooms = new Map(ROOMS.map((r) => [r, { lines: 0, ran: 0, branches: 0, taken: 0 }]))
const missed = [], excluded = [], wrong = [], kinds = new Map()
let asserted = 0, cases = 0

function coreLine(name, n, source, line, isAssertion) {
  const text = source[n - 1] ?? ''
  const reason = /\/\* uncovered: *(.*?) *\*\//.exec(text)
  const open = line.branches.map((b, i) => b.count === 0 ? i + 1 : 0).filter(Boolean)
  if (isAssertion) { asserted += line.branches.length; return [] }
  if (open.length === 1 && open[0] === line.branches.length && noCase(source, n)) {
    cases++
    return line.branches.slice(0, -1)
  }
  if (reason) {
    if (!reason[1]) wrong.push(`${name}:${n}: an exclusion without a reason`)
    if (open.length === 0 && line.count > 0) wrong.push(`${name}:${n}: is reached: take the mark away`)
    excluded.push(`${name}:${n}: ${reason[1]} (${open.length || 'no'} branches)`)
    return line.branches.filter((b) => b.count > 0)
  }
  if (line.count === 0) missed.push(`${name}:${n}: never runs: ${text.trim()}`)
  else if (open.length) missed.push(`${name}:${n}: branch ${open.join(', ')} of ${line.branches.length} not taken: ${text.trim()}`)
  return line.branches
}

function otherLines(name, source, lines) {
  const entered = new Map() // function → did any line of it run
  let current = null
  const of = new Map()
  for (const l of lines) { // a function's first counted line stands in column 0
    if (/^[a-z_].*\(/.test(source[l.line_number - 1] ?? '') || current === null) current = l.line_number
    of.set(l, current)
    entered.set(current, (entered.get(current) ?? false) || l.count > 0)
  }
  for (const l of lines) {
    if (l.count > 0) continue
    const k = kind((source[l.line_number - 1] ?? '').trim(), !entered.get(of.get(l)))
    if (!kinds.has(k)) kinds.set(k, new Map())
    const files = kinds.get(k)
    files.set(name, [...(files.get(name) ?? []), l.line_number])
  }
}

for (const f of JSON.parse(readFileSync(file, 'utf8')).files) {
  const name = f.file, room = rooms.get(name.split('/')[1])
  if (!room) continue
  const source = readFileSync(name, 'utf8').split('\n')
  const inAssertion = assertions(source)
  const lines = f.lines.filter((l) => !l['gcovr/noncode'])
  for (const l of lines) {
    const branches = name.startsWith('engine/core/')
      ? coreLine(name, l.line_number, source, l, inAssertion.has(l.line_number))
      : inAssertion.has(l.line_number) ? [] : l.branches
    room.lines++
    room.ran += l.count > 0 ? 1 : 0
    room.branches += branches.length
    room.taken += branches.filter((b) => b.count > 0).length
  }
  if (!name.startsWith('engine/core/')) otherLines(name, source, lines)
}

function ranges(numbers) {
  const out = []
  for (const n of numbers) {
    const last = out[out.length - 1]
    if (last && n <= last[1] + 1) last[1] = n
    else out.push([n, n])
  }
  return out.map(([a, b]) => a === b ? `${a}` : `${a}-${b}`).join(' ')
}

const sum = (key) => [...rooms.values()].reduce((s, r) => s + r[key], 0)
const row = (a, b, c) => console.log(`${a.padEnd(10)} ${b.padStart(20)} ${c.padStart(20)}`)

console.log('\nNot reached outside core:')
for (const [k, files] of [...kinds].sort()) {
  console.log(`\n  ${k}: ${[...files.values()].reduce((s, l) => s + l.length, 0)} lines`)
  for (const [name, numbers] of files) console.log(`    ${name}: ${ranges(numbers)}`)
}
console.log(`\nNot counted in core: ${asserted} branches of assertions, "none of the cases" of ${cases} switches that have them all, and`)
for (const line of excluded.length ? excluded : ['nothing else']) console.log(`  ${line}`)
console.log('\nNot reached in core:')
for (const line of missed.length ? missed : ['nothing']) console.log(`  ${line}`)
for (const line of wrong) console.log(`WRONG ${line}`)
console.log('')
row('room', 'lines', 'branches')
for (const [name, r] of rooms) row(name, shown(r.ran, r.lines), shown(r.taken, r.branches))
row('engine', shown(sum('ran'), sum('lines')), shown(sum('taken'), sum('branches')))

let failed = wrong.length > 0
const core = rooms.get('core')
function ask(what, part, all, least) {
  if (least === null || percent(part, all) >= least) return
  console.log(`MISSED: ${what}: ${shown(part, all)}, wanted ${least} %`)
  failed = true
}
ask('branches of core', core.taken, core.branches, wanted('--branches'))
ask('lines of the engine', sum('ran'), sum('lines'), wanted('--lines'))
process.exit(failed ? 1 : 0)
