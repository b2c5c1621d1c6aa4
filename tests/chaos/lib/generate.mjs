// generate.mjs: random workflows over every kind of state, each road with an end.
//
// A workflow is a chain of blocks; what fails takes the side road `gone`, which undoes
// what was done. Every effect carries the tag "{run.id}/STATE", so the recorder's file
// and the ledger table can be laid beside the engine's history. `full` has one block of
// each kind, and every limit; the others draw theirs.

import { random } from './random.mjs'

const RETRY = 'retry = { attempts = 40, base = "50ms", cap = "400ms" }, timeout = "2s"'
const arms = (r, s) => `on = {
      hurry = { event = "chaos.hurry", key = "{run.id}", next = "${s.next}", save = "hurry" },
      late  = { after = "${1 + r.int(3)}s", next = "${s.next}" },
      ill   = { every = "1s", call = recorder.health, when = function(reply) return reply.ok == false end, next = "${s.next}", failures = 3 },
    },`

/** What a call waits for, and what a run does before it starts; all of it binds at times. */
const limits = (r, s) => [
  [0.5, 'budget = { "chaos", over = "park" },'],
  [0.4, `concurrency = { max = ${1 + r.int(3)}, per = "{input.shared}" },`],
  [0.3, `rate = { max = ${5 + r.int(20)}, every = "1s", burst = 3 },`],
].filter(([p]) => s.full || r.chance(p)).map(([, text]) => text).join(' ')
const starts = (r, full) => [
  [1, 'budgets = { chaos = { limit = 12, window = "1s" } },'],
  [0.5, `concurrency = { max = ${2 + r.int(3)}, per = "{input.shared}" },`],
  [0.3, 'rate = { max = 10, every = "1s", burst = 4 },'],
  [0.3, 'fair = "{input.shared}",'],
  [0.3, 'priority = "{input.shared}",'],
].filter(([p]) => full || r.chance(p)).map(([, text]) => text).join(' ')

/** kind → text of the state; s: { name, next, full } */
const blocks = {
  put: (r, s) => `  call "${s.name}" {
    recorder.put, with = { tag = "{run.id}/${s.name}" }, save = "${s.name}", ${RETRY}, ${limits(r, s)}
    ${s.full || r.chance(0.7) ? `undo = { recorder.undo, with = { tag = "{run.id}/${s.name}" }, ${RETRY} },` : ''}
    catch = { refused = "${r.pick(['gone', s.next])}", otherwise = "gone" },
  },`,
  once: (r, s) => `  call "${s.name}" {
    recorder.once, with = { tag = "{run.id}/${s.name}" }, key = "{run.id}-${s.name}", save = "${s.name}", ${RETRY},
    probe = { recorder.find, with = { key = "{run.id}-${s.name}" }, found = function(reply) return reply.acts > 0 and { acts = reply.acts } end },
    catch = { refused = "${s.next}", otherwise = "gone" },
  },`,
  sql: (r, s) => `  sql "${s.name}" {
    as = service, exec = [[insert into chaos_ledger (run, state) values ($1, $2)]], args = { "{run.id}", "${s.name}" },
    undo = { as = service, exec = [[update chaos_ledger set undone = undone + 1 where run = $1 and state = $2]], args = { "{run.id}", "${s.name}" } },
  },`,
  choose: (r, s) => `  choose "${s.name}" {
    { when = function(run) return run.input.n % ${2 + r.int(3)} == 0 end, next = "${s.next}" }, otherwise = "${s.next}",
  },`,
  approval: (r, s) => `  approval "${s.name}" {
    ask = "Go on with {run.id}?", approvers = "1 of ops", deadline = "8s", reminders = { "1s" }, save = "${s.name}",
    rejected = "${r.pick(['gone', s.next])}", expired = "${s.next}",
    ${s.full || r.chance(0.6) ? arms(r, s) : ''}
  },`,
  wait: (r, s) => `  wait "${s.name}" { for_ = "${50 + r.int(900)}ms"${s.full || r.chance(0.4) ? `, ${arms(r, s).replace(/,$/, '')}` : ''} },`,
  await: (r, s) => `  await "${s.name}" {
    event = "chaos.ping", key = "{run.id}", within = "${2 + r.int(3)}s", timeout = "${s.next}", save = "${s.name}",
    ${s.full || r.chance(0.4) ? arms(r, s) : ''}
  },`,
  run: (r, s) => `  run "${s.name}" {
    workflow = "chaos_child", ${r.chance(0.5) ? 'key = "shared:{input.shared}",' : ''} input = { n = "{input.n}" }, save = "${s.name}",
    catch = { otherwise = "${r.pick(['gone', s.next])}" },
  },`,
  each: (r, s) => `  each "${s.name}" {
    items = { 1, 2, 3, 4 }, workflow = "chaos_child", input = { n = "{item}" }, concurrency = ${1 + r.int(3)}, tolerate = 4, save = "${s.name}",
    catch = { otherwise = "gone" },
  },`,
  sweep: (r, s) => `  sweep "${s.name}" {
    as = service, args = { "{run.id}" }, cursor = "id", first = 0, batch = 7,
    rows = [[select id from chaos_rows where id > $1 order by id limit $2]],
    exec = [[insert into chaos_swept (run, state, id) select $2::bigint, '${s.name}', (r ->> 'id')::bigint from jsonb_array_elements($1::jsonb) r]],
    save = "${s.name}",
  },`,
}
export const KINDS = Object.keys(blocks)

function workflow(name, kinds, r, full) {
  const text = kinds.map((kind, i) => blocks[kind](r, { name: `s${i + 1}_${kind}`, next: i + 1 < kinds.length ? `s${i + 2}_${kinds[i + 1]}` : 'done', full }))
  return `local recorder = connector "recorder"

return workflow "${name}" {
  doc = "Generated.", input = { n = integer, shared = integer }, on_cancel = "undo",
  ${starts(r, full)}

${text.join('\n')}
  succeed "done" { result = { n = "{input.n}" } },
  fail "gone" { code = "gone", undo = true },
}
`.replace('local recorder = connector "recorder"\n\n', /recorder\./.test(text.join('')) ? 'local recorder = connector "recorder"\n\n' : '')
}

/** name → source */
export function generate(seed, count) {
  const r = random(seed)
  const all = { chaos_child: `local recorder = connector "recorder"

return workflow "chaos_child" {
  doc = "Generated: what run and each start.", input = { n = integer },
  concurrency = { max = 8 },
  call "put" { recorder.put, with = { tag = "{run.id}/put" }, save = "put", ${RETRY}, catch = { refused = "no", otherwise = "no" } },
  succeed "done" { result = { put = "{put.id}" } },
  fail "no" { code = "child_refused" },
}
` }
  all.chaos_full = workflow('chaos_full', KINDS, r, true)
  for (let i = 1; i <= count; i++)
    all[`chaos_${i}`] = workflow(`chaos_${i}`, Array.from({ length: 3 + r.int(5) }, () => r.pick(KINDS)), r, false)
  return all
}
