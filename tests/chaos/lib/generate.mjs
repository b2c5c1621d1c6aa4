// generate.mjs: random workflows over every kind of state, each road with an end.
//
// What the workflows do not use, a storm does not see. Of the fields in docs/authoring.md
// they use all but these: `retention` (it would remove what is checked at the end),
// `lag` and `dry_run` of sweeps, `promote` (runs would promote each other's versions) and
// budgets that fill like a bucket.
//
// A workflow is a chain of blocks; what fails takes the side road `gone`, which undoes
// what was done. Every effect carries the tag "{run.id}/STATE", so the recorder's file
// and the ledger table can be laid beside the engine's history. `full` has one block of
// each kind, and every limit; the others draw theirs.

import { random } from './random.mjs'

export const TICK_S = 2 // of chaos_tick
export const CALLED = 6 // rows that each `called` calls for
export const BESIDE = ['chaos_child', 'chaos_hook', 'chaos_tick', 'chaos_late'] // not drawn
const RETRY = 'retry = { attempts = 40, base = "50ms", cap = "400ms" }, timeout = "2s"'
const arms = (r, s) => `on = {
      hurry = { event = "chaos.hurry", key = "{run.id}", next = "${s.next}", save = "hurry" },
      late  = { after = "${1 + r.int(3)}s", next = "${s.next}" },
      ill   = { every = "1s", call = recorder.health, when = function(reply) return reply.ok == false end, next = "${s.next}", failures = 3 },
    },`

/** What is undone; the last one is for a person, who says it is done. */
const undo = (r, s) => s.full || r.chance(0.7) ? `undo = { recorder.undo, with = { tag = "{run.id}/${s.name}" }, ${RETRY} },` : ''

/** What a call waits for, and what a run does before it starts; all of it binds at times. */
const limits = (r, s) => [
  [0.5, `budget = { "chaos", over = "${s.full ? 'park' : r.pick(['park', 'park', 'fail', s.next])}", per = "{input.shared}", amount = ${1 + r.int(2)} },`],
  [0.4, `concurrency = { max = ${1 + r.int(3)}, per = "{input.shared}" },`],
  [0.3, `rate = { max = ${5 + r.int(20)}, every = "1s", burst = 3 },`],
].filter(([p]) => s.full || r.chance(p)).map(([, text]) => text).join(' ')
const starts = (r, full, wide) => [
  [1, 'budgets = { chaos = { limit = 12, window = "1s" } },'],
  [0.5, `concurrency = { max = ${2 + r.int(3)}, per = "{input.shared}" },`],
  [0.3, 'rate = { max = 10, every = "1s", burst = 4 },'],
  [0.3, 'fair = "{input.shared}",'],
  [0.3, 'priority = "{input.shared}",'],
  ...(full || !wide ? [] : [[0.3, `exclusive = "chaos:{input.shared}", overlap = "${r.pick(['wait', 'skip'])}",`]]),
].filter(([p]) => full || r.chance(p)).map(([, text]) => text).join(' ')

/** kind → text of the state; s: { name, next, full } */
const blocks = {
  put: (r, s) => `  call "${s.name}" {
    recorder.put, with = { tag = "{run.id}/${s.name}" }, save = "${s.name}", ${RETRY}, ${limits(r, s)}
    ${undo(r, s)}
    catch = { refused = "${r.pick(['gone', s.next])}", over_budget = "${s.next}", otherwise = "gone" },
  },`,
  signed: (r, s) => `  approval "${s.name}" {
    of = "${s.name}_put", ask = "Put {run.id}?", evidence = { "input" }, approvers = "${s.wide ? r.pick(['1 of ops', '2 of ops', '1 of ops and 1 of sec']) : '1 of ops'}",
    deadline = "6s", save = "${s.name}", rejected = "${r.pick(['gone', s.next])}", expired = "${s.next}",
    ${s.full || r.chance(0.3) ? arms(r, s) : ''}
  },
${blocks.put(r, { ...s, name: `${s.name}_put` })}`,
  business: (r, s) => `  call "${s.name}" {
    recorder.put, with = { tag = "business/{input.shared}" }, key = "business-{input.shared}", save = "${s.name}", ${RETRY},
    catch = { refused = "${s.next}", otherwise = "gone" },
  },`,
  round: (r, s) => `  call "${s.name}" {
    recorder.put, with = function(run) return { tag = run.id .. "/${s.name}#" .. (run.${s.name}_n or 0) } end, save = "${s.name}", ${RETRY},
    undo = { recorder.undo, with = function(run) return { tag = run.id .. "/${s.name}#" .. (run.${s.name}_n or 0) } end, ${RETRY} },
    set = { ${s.name}_n = function(run) return (run.${s.name}_n or 0) + 1 end },
    catch = { refused = "${s.next}", otherwise = "gone" },
  },
  choose "${s.name}_again" {
    { when = function(run) return run.${s.name}_n < 3 end, next = "${s.name}" }, otherwise = "${s.next}",
  },`,
  secret: (r, s) => `  call "${s.name}" {
    recorder.mint, with = { tag = "{run.id}/${s.name}" }, save = secret { CHAOS_KEY = "key", as = "${s.name}" }, ${RETRY},
    catch = { refused = "${s.next}", otherwise = "gone" },
  },
  call "${s.name}_put" {
    recorder.put, with = { tag = "{run.id}/${s.name}_put", note = secret("CHAOS_KEY", "{${s.name}.key.version}") }, save = "${s.name}_put", ${RETRY},
    retire = secret("CHAOS_KEY", "{${s.name}.key.version}"), next = "${s.next}",
    catch = { refused = "${s.next}", otherwise = "gone" },
  },`,
  query: (r, s) => r.chance(0.5) ? `  sql "${s.name}" {
    as = user("{input.shared}"), one = [[select id, current_setting('holdpoint.user') as who from chaos_rows where id = $1]], args = { "{input.n}" },
    save = "${s.name}", none = "${s.next}", timeout = "5s", ${RETRY.replace(/, timeout.*/, '')},
  },` : `  sql "${s.name}" {
    as = service, many = [[select id from chaos_rows where id % 7 = $1 order by id]], args = { "{input.shared}" }, save = "${s.name}",
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
    ${r.chance(0.3) ? 'when = function(run) return run.input.n % 2 == 0 end,' : ''} ask = "Go on with {run.id}?", approvers = "1 of ops", deadline = "8s", reminders = { "1s" }, save = "${s.name}",
    rejected = "${r.pick(['gone', s.next])}", expired = "${s.next}",
    ${s.full || r.chance(0.6) ? arms(r, s) : ''}
  },`,
  wait: (r, s) => `  wait "${s.name}" { ${r.chance(0.5) ? `for_ = "${50 + r.int(900)}ms"` : 'until_ = function(run) return run.now + 400000 end'}${s.full || r.chance(0.4) ? `, ${arms(r, s).replace(/,$/, '')}` : ''} },`,
  await: (r, s) => `  await "${s.name}" {
    event = ${r.pick(['"chaos.ping"', '{ "chaos.pong", "chaos.ping" }'])}, key = "{run.id}", within = "${2 + r.int(3)}s", timeout = "${s.next}", save = "${s.name}",
    ${s.full || r.chance(0.4) ? arms(r, s) : ''}
  },`,
  run: (r, s) => `  run "${s.name}" {
    workflow = "chaos_child", ${r.chance(0.5) ? 'key = "shared:{input.shared}",' : ''} input = { n = "{input.n}" }, save = "${s.name}",
    ${r.chance(0.3) ? `within = "2s", timeout = "${s.next}",` : ''} catch = { otherwise = "${r.pick(['gone', s.next])}" },
  },`,
  each: (r, s) => `  each "${s.name}" {
    ${r.pick(['items = { 1, 2, 3, 4 }', 'as = service, cursor = "id", rows = [[select id from chaos_rows where id > $1 and id <= 5 order by id limit $2]]'])},
    workflow = "chaos_child", input = function(run) return { n = type(run.item) == "table" and run.item.id or run.item } end,
    concurrency = ${1 + r.int(3)}, ${r.pick(['tolerate = 4', 'tolerate = "50%"', 'join = "any"', 'join = 2'])}, save = "${s.name}",
    catch = { otherwise = "${s.next}" },
  },`,
  called: (r, s) => `  sweep "${s.name}" {
    as = service, cursor = "id", first = 0, total = [[select ${CALLED}]], rows = [[select id from chaos_rows where id > $1 and id <= ${CALLED} order by id limit $2]],
    call = { recorder.put, with = { tag = "{run.id}/${s.name}#{row.id}" } }, ${RETRY},
    exec = [[insert into chaos_called (run, state, id, reply) select (regexp_match($2::jsonb ->> 'tag', '^[0-9]+'))[1]::bigint, '${s.name}', ($1::jsonb ->> 'id')::bigint, $2::jsonb]],
    tolerate = ${CALLED}, rate = "200/s", save = "${s.name}", catch = { otherwise = "gone" },
  },`,
  sweep: (r, s) => `  sweep "${s.name}" {
    as = service, args = { "{run.id}" }, cursor = "id", first = 0, batch = 7,
    rows = [[select id from chaos_rows where id > $1 order by id limit $2]],
    exec = [[insert into chaos_swept (run, state, id) select $2::bigint, '${s.name}', (r ->> 'id')::bigint from jsonb_array_elements($1::jsonb) r]],
    save = "${s.name}",
  },`,
}
export const KINDS = Object.keys(blocks)

function workflow(name, kinds, r, full, wide) {
  const names = kinds.map((kind, i) => `s${i + 1}_${kind}`)
  const text = kinds.map((kind, i) => blocks[kind](r, { name: names[i], next: names[i + 1] ?? 'done', full, wide }))
  return `local recorder = connector "recorder"

return workflow "${name}" {
  doc = "Generated.", input = { n = integer, shared = integer }, on_cancel = "undo",
  ${starts(r, full, wide)}

${text.join('\n')}
  succeed "done" { result = { n = "{input.n}" } },
  fail "gone" { code = "gone", undo = true },
}
`.replace('local recorder = connector "recorder"\n\n', /recorder\./.test(text.join('')) ? 'local recorder = connector "recorder"\n\n' : '')
}

/** name → source; wide: see World */
export function generate(seed, count, wide) {
  const r = random(seed)
  const all = { chaos_child: `local recorder = connector "recorder"

return workflow "chaos_child" {
  doc = "Generated: what run and each start.", input = { n = integer },
  concurrency = { max = 8 },
  call "put" { recorder.put, with = { tag = "{run.id}/put" }, save = "put", ${RETRY}, catch = { refused = "no", otherwise = "no" } },
  succeed "done" { result = { put = "{put.id}" } },
  fail "no" { code = "child_refused" },
}
`,
    chaos_hook: `local recorder = connector "recorder"

return workflow "chaos_hook" {
  doc = "Generated: what a webhook starts, and another one may tell.", trigger = webhook { "duffel", events = { "chaos.started" } },
  key = "{input.data.object.id}", input = { data = { object = { id = text } } },
  call "put" { recorder.put, with = { tag = "{run.id}/put" }, save = "put", ${RETRY}, catch = { otherwise = "told" } },
  await "told" { event = "duffel.chaos.told", key = "{run.key}", within = "2s", timeout = "done" },
  succeed "done" {},
}
`,
    chaos_late: `local recorder = connector "recorder"

return workflow "chaos_late" {
  doc = "Generated: most of its time an answer is on its way.", input = { n = integer },
  call "late" {
    recorder.late, with = function(run) return { tag = run.id .. "/late#" .. (run.round or 0) } end, save = "late", ${RETRY},
    set = { round = function(run) return (run.round or 0) + 1 end }, catch = { otherwise = "done" },
  },
  choose "again" { { when = function(run) return run.round < 3 end, next = "late" }, otherwise = "done" },
  succeed "done" {},
}
`,
    chaos_tick: `local recorder = connector "recorder"

return workflow "chaos_tick" {
  doc = "Generated: each tick has one run, whoever is dead at that instant.",
  trigger = schedule { cron = "@every ${TICK_S}s", catch_up = "all", overlap = "allow" },
  call "put" { recorder.put, with = { tag = "{run.id}/put" }, save = "put", ${RETRY}, catch = { otherwise = "done" } },
  succeed "done" {},
}
` }
  if (!wide) delete all.chaos_tick
  all.chaos_full = workflow('chaos_full', KINDS, r, true, wide)
  for (let i = 1; i <= count; i++)
    all[`chaos_${i}`] = workflow(`chaos_${i}`, Array.from({ length: 3 + r.int(5) }, () => r.pick(KINDS)), r, false, wide)
  return all
}
