// checks.mjs: what must be true when every run has ended: the recorder's file, the
// database and the workflows' own tables are laid side by side.
//
//   await checkAll(s, world)      every one of them, each counted as a check of scenario s
//   await fsck(s, world, when)    what the database says of itself; at any time
//
// Each takes (world, rows, bad): rows are the recorder's, bad(text) says what is wrong.
// The tag of a request is "RUN/STATE", with "#N" behind it when the state sends several,
// or "business/N" for the keys that runs share.
import { createHash } from 'node:crypto'
import { waitFor } from '../../e2e/lib/engine.mjs'
import { CALLED, TICK_S } from './generate.mjs'
import { ROWS, SECRET } from './world.mjs'

export function group(rows, of) {
  const groups = new Map()
  for (const row of rows) {
    const key = of(row), known = groups.get(key)
    if (known) known.push(row)
    else groups.set(key, [row])
  }
  return groups
}

/** The recorder's word: one effect per key, the same bytes under it, one key per visit. */
export function checkRecorder(world, rows, bad) {
  for (const [key, of] of group(rows, (x) => `${x.op} ${x.key}`)) {
    const acts = of.reduce((n, x) => n + x.acts, 0)
    if (acts > 1) bad(`${key}: ${acts} effects`)
    if (new Set(of.map((x) => x.body)).size > 1) bad(`${key}: different requests under one key`)
  }
  for (const [tag, of] of group(rows, (x) => `${x.op} ${x.tag}`))
    if (new Set(of.map((x) => x.key)).size > 1) bad(`${tag}: sent under two keys`)
  for (const [key, of] of group(rows, (x) => `${x.op} ${x.key}`))
    if (new Set(of.map((x) => x.tag)).size > 1) bad(`${key}: one key for two visits`)
}

// Names under which generate.mjs and the scenarios save what the recorder has answered.
const OF_CALLS = '^put$|^late$|_(put|once|round|business|secret)$'

/** What a run has saved of a call is what the recorder answered to that call, which had an effect there; how many were compared. */
export async function checkSaved(world, rows, bad) {
  const acted = new Set(rows.filter((x) => x.acts).map((x) => x.tag)), given = new Set(rows.map((x) => `${x.tag} ${x.id}`))
  const saved = [...await world.sql(`select run_id, name, value ->> 'tag', value ->> 'id' from holdpoint.saved where name ~ '${OF_CALLS}'`),
    ...await world.sql(`select run, state || '#' || id, reply ->> 'tag', reply ->> 'id' from public.chaos_called`)]
  for (const [run, name, told, id] of saved) {
    const tag = told || `${run}/${name}` // what a probe has found names none
    if (!acted.has(tag)) bad(`run ${run} saved ${name}, and the recorder has no effect ${tag}`)
    else if (told && !given.has(`${tag} ${id}`)) bad(`run ${run} saved ${name} with ${id}, which the recorder never said of ${tag}`)
    else if (tag !== `${run}/${name}` && !tag.startsWith(`${run}/${name}#`) && !(/_business$/.test(name) && tag.startsWith('business/')))
      bad(`run ${run} saved ${name}, and it is of ${tag}`)
  }
  return saved.length
}

/** As engine/core/keys.c: the key of an effect that names none itself. */
function effectKey(installation, run, name, visit) {
  const int = (n) => { const b = Buffer.alloc(8); b.writeBigInt64BE(BigInt(n)); return b }
  const hash = createHash('sha256')
  for (const part of ['holdpoint effect key 1', installation, int(run), name, int(visit), int(0)].map((x) => Buffer.from(x)))
    hash.update(int(part.length)).update(part)
  return `hp_${hash.digest('hex').slice(0, 40)}`
}

/** No request without an admission, none before the first and none more often: of the visit that its key names.
 *  By their state: undos, and calls whose key is their own or of the approval before them (one visit each).
 *  Keys that runs share: by the key. */
export async function checkAdmissions(world, rows, bad) {
  const [[installation]] = await world.sql('select id from holdpoint.installation')
  const admitted = new Map(), visits = new Map() // group → { n, first }, key → its group
  const note = (name, n, at) => {
    const x = admitted.get(name) ?? { n: 0, first: Infinity }
    admitted.set(name, { n: x.n + Number(n), first: Math.min(x.first, Number(at)) })
  }
  for (const [run, state, visit, shared, n, at] of await world.sql(`select h.run_id, holdpoint.state_name(r.digest, h.state), h.visit, r.input ->> 'shared', count(*), min(h.at) / 1000
      from holdpoint.history h join holdpoint.run r on r.id = h.run_id where h.flags & 1 <> 0 group by 1, 2, 3, 4`)) {
    note(`${run}/${state}`, n, at)
    note(`${run}/${state}, visit ${visit}`, n, at)
    if (/_business$/.test(state)) note(`business/${shared}`, n, at)
    const names = /_called$/.test(state) ? Array.from({ length: CALLED }, (_, i) => `${state}\n${i + 1}`) : [state]
    for (const name of names) visits.set(effectKey(installation, run, name, visit), `${run}/${state}, visit ${visit}`)
  }
  const of = (x) => {
    const state = x.tag.replace(/#.*/, '')
    return x.op === 'undo' ? `${state}.undo` : /^hp_/.test(x.key) && !/_signed_put$/.test(state) ? visits.get(x.key) ?? `${x.tag}, whose key is of no visit,` : state
  }
  for (const [name, sent] of group(rows, of)) {
    const known = admitted.get(name), at = Math.min(...sent.map((x) => x.at))
    if (!known) bad(`${name} was sent and never admitted`)
    else if (sent.length > known.n) bad(`${name} was sent ${sent.length} times and admitted ${known.n} times`)
    else if (at < known.first && !world.clockJumps) bad(`${name} was sent ${known.first - at} ms before it was admitted`)
  }
}

/** Nothing committed that never happened, nothing sent that was not admitted, nothing lost. */
export async function checkEngine(world, rows, bad) {
  const sql = (text) => world.sql(text)
  await checkAdmissions(world, rows, bad)
  await checkStatements(world, bad)
  for (const [run] of await sql(`select h.run_id from holdpoint.history h where h.seq = 0 group by 1
      having max(h.rev) <> max(h.rev) filter (where h.move = 9)`)) bad(`run ${run} moved after its end`)
  for (const [run] of await sql(`select run_id from holdpoint.history group by 1 having count(distinct visit) <> max(visit)`))
    bad(`run ${run}: a visit is missing`)
}

/** A statement that history tells of is there once, and none that it does not tell of; so are the rows of a sweep. */
export async function checkStatements(world, bad) {
  for (const [run, state, told, there] of await world.sql(`select coalesce(h.run_id, l.run), coalesce(h.state, l.state), coalesce(h.n, 0), coalesce(l.n, 0) from (
      select h.run_id, holdpoint.state_name(r.digest, h.from_state) as state, count(*) as n from holdpoint.history h
        join holdpoint.run r on r.id = h.run_id where h.flags & 2 <> 0 group by 1, 2) h
      full join (select run, state, count(*) as n from public.chaos_ledger group by 1, 2) l on l.run = h.run_id and l.state = h.state
      where coalesce(h.state, l.state) ~ '(^|_)(sql|statement)$' and (coalesce(h.n, 0) <> 1 or coalesce(l.n, 0) <> 1)`))
    bad(`run ${run}: history tells ${told} times of the statement of ${state}, which is there ${there} times`)
  for (const [run, state, n] of await world.sql('select run, state, max(undone) from public.chaos_ledger group by 1, 2 having max(undone) > 1'))
    bad(`run ${run}: the statement of ${state} was undone ${n} times`)
  for (const [run, state, whole, n, ids] of await world.sql(`select coalesce(v.run_id, w.run), coalesce(v.name, w.state), v.run_id is not null, coalesce(w.n, 0), coalesce(w.ids, 0)
      from (select distinct run_id, name from holdpoint.saved where name ~ '^s[0-9]+_sweep$') v
      full join (select run, state, count(*) as n, count(distinct id) as ids from public.chaos_swept group by 1, 2) w on w.run = v.run_id and w.state = v.name`))
    if (n !== ids || Number(n) > ROWS || (whole === 't' && Number(n) !== ROWS)) bad(`run ${run}: ${state} swept ${n} rows (${ids} different ones) of ${ROWS}${whole === 't' ? ', and says that it has ended' : ''}`)
  for (const [run, state, whole, n, ids, failed] of await world.sql(`select coalesce(v.run_id, c.run), coalesce(v.name, c.state), v.run_id is not null, coalesce(c.n, 0), coalesce(c.ids, 0),
        (select coalesce(max(x.failed), 0) from holdpoint.sweep x where x.run_id = v.run_id and holdpoint.visit_state(x.run_id, x.visit) = v.name)
      from (select distinct run_id, name from holdpoint.saved where name ~ '^s[0-9]+_called$') v
      full join (select run, state, count(*) as n, count(distinct id) as ids from public.chaos_called group by 1, 2) c on c.run = v.run_id and c.state = v.name`))
    if (n !== ids || (whole === 't' && Number(n) + Number(failed) !== CALLED)) bad(`run ${run}: ${state} called for ${n} rows (${ids} different ones), ${failed} failed; there are ${CALLED}`)
}

/** Who went back has undone all it could, once; who did not has undone nothing. */
export async function checkUndo(world, rows, bad) {
  const undone = new Set(rows.filter((x) => x.op === 'undo' && x.acts).map((x) => x.tag))
  const log = await world.sql(`select u.run_id, holdpoint.state_name(r.digest, u.state), u.status, s.status
    from holdpoint.undo_log u join holdpoint.run r on r.id = u.run_id join holdpoint.run_state s on s.run_id = u.run_id`)
  const back = new Set((await world.sql('select run_id from holdpoint.unwinding')).map(([run]) => run))
  for (const [run, state, status] of log) {
    const name = state.replace(/\.undo$/, '')
    if (back.has(run) && status === '1' && !world.repairs.has(Number(run))) bad(`run ${run} went back and left ${name}`)
    if (/_put$/.test(name) && status === '2' && !undone.has(`${run}/${name}`)) bad(`run ${run} says it undid ${name}; the recorder does not`)
    if (!back.has(run) && undone.has(`${run}/${name}`)) bad(`run ${run} undid ${name} without going back`)
  }
  for (const [run] of await world.sql('select distinct run from public.chaos_ledger where undone > 0'))
    if (!back.has(run)) bad(`run ${run} undid a statement without going back`)
}

/** Every hand that wrote came after the one before it, no attempt came before its time, none was one too many. */
export async function checkHands(world, rows, bad) {
  for (const [run, rev, epoch, before] of await world.sql(`select run_id, rev, epoch, before from (
      select run_id, rev, epoch, max(epoch) over (partition by run_id order by rev, seq rows between unbounded preceding and 1 preceding) as before
      from holdpoint.history where epoch is not null) x where epoch < before limit 10`))
    bad(`run ${run}, rev ${rev}: written by epoch ${epoch} after epoch ${before}`)
  for (const [run, visit, n] of await world.sql('select run_id, visit, max(attempt) from holdpoint.history group by 1, 2 having max(attempt) > 40 limit 10'))
    bad(`run ${run}, visit ${visit}: ${n} attempts of 40`)
  if (world.clockJumps) return // what was claimed before a jump is admitted after it: clock.mjs looks at its timers itself
  for (const [run, rev, early] of await world.sql(`select run_id, rev, due - at from (
      select run_id, rev, at, epoch, flags, lag(due_at) over w as due, lag(move) over w as before from holdpoint.history
      where seq = 0 window w as (partition by run_id order by rev)) x
      where before = 4 and flags & 1 <> 0 and at < due limit 10`))
    bad(`run ${run}, rev ${rev}: attempted ${early} us before its pause was over`)
}

/** A tick has one run, over all the engines that lived and died at it. */
export async function checkTicks(world, rows, bad) {
  if (!world.sources.chaos_tick) return
  const period = TICK_S * 1000000
  const ticks = (await world.sql(`select t.tick, t.outcome, t.run_id, r.id is not null from holdpoint.schedule_tick t
    left join holdpoint.run r on r.id = t.run_id where t.workflow = 'chaos_tick' order by 1`))
  ticks.forEach(([tick, outcome, run, there], i) => {
    if (outcome !== 'started' || there !== 't') bad(`tick ${tick}: ${outcome}, run ${run}`)
    if (i && tick - ticks[i - 1][0] !== period) bad(`between the ticks ${ticks[i - 1][0]} and ${tick} some are missing`)
  })
  const [[runs]] = await world.sql(`select count(*) from holdpoint.run where workflow = 'chaos_tick'`)
  if (Number(runs) !== ticks.length || ticks.length === 0) bad(`${ticks.length} ticks and ${runs} runs of them`)
}

/** What people were told was done is there. */
export async function checkAcked(world, rows, bad) {
  const there = new Map((await world.sql('select id, key from holdpoint.run')).map(([id, key]) => [Number(id), key]))
  for (const [key, { run, existed }] of world.acked.runs) if (!there.has(run) || (!existed && there.get(run) !== key)) bad(`run ${run} was started under ${key} and is not there`)
  for (const [what, texts, query] of [['vote', world.acked.votes, 'select reason, count(*) from holdpoint.vote group by 1'],
    ['event', world.acked.events, `select payload ->> 'n', count(*) from holdpoint.mail where name like 'chaos.%' group by 1`]]) {
    const known = new Map(await world.sql(query))
    for (const text of texts) if (known.get(text) !== '1') bad(`${what} ${text} was acknowledged and is there ${known.get(text) ?? 0} times`)
  }
}

/** No value of a secret in what the engine keeps or says. */
export async function checkSecrets(world, rows, bad) {
  for (const [table, column] of [['history', 'message'], ['history', 'detail::text'], ['saved', 'value::text'], ['approval', `encode(request, 'escape')`], ['undo_log', 'u::text']]) {
    const [[n]] = await world.sql(`select count(*) from holdpoint.${table} u where ${column} like '%${SECRET}%'`)
    if (n !== '0') bad(`${n} rows of ${table} have a secret in ${column}`)
  }
  for (const line of world.leaked) bad(`the log has a secret: ${line}`)
  if (world.lines === 0) bad('no line of the log was looked at')
}

/** Who has ended holds no place and no budget, and the engine never refused what was right. */
export async function checkLimits(world, rows, bad) {
  await waitFor('what was left behind is given back', async () => (await world.sql('select count(*) from holdpoint.permit'))[0][0] === '0')
    .catch(async () => bad(`permits of runs that have ended: ${JSON.stringify(await world.sql('select run_id, visit, limiter_id from holdpoint.permit limit 5'))}`))
  for (const [kind, name, key, used, waiting] of await world.sql(`select kind, name, key, used, waiting from holdpoint.limiter
      where waiting <> 0 or (used <> 0 and kind not in ('budget', 'rate', 'start_rate'))`))
    bad(`${kind} ${name} ${key}: ${used} used and ${waiting} wait, and nobody lives`)
  for (const [run, code, message] of await world.sql(`select run_id, code, left(message, 120) from holdpoint.history
      where move = 8 and code in ('commit_refused', 'script_error', 'request_invalid')`))
    bad(`run ${run} was held: ${code}: ${message}`)
}


/** An operator who asks why a run stands still is never left without an answer. */
export function checkWhy(world, rows, bad) {
  for (const why of world.unknown) bad(`why of run ${why.run}: ${why.cause}: ${why.sentence}`)
}

const ALL = { recorder: checkRecorder, engine: checkEngine, hands: checkHands, ticks: checkTicks, acked: checkAcked, secrets: checkSecrets, undo: checkUndo, limits: checkLimits, why: checkWhy }

export async function fsck(s, world, when) {
  await s.check(`fsck ${when}`, async (bad) => {
    const { host, user } = world.where()
    const { code, stdout, stderr } = await world.engine.cli(['fsck', '--database', `host=${host} user=${user} dbname=holdpoint`], { ms: 120000 })
    if (code !== 0) bad(`exit code ${code}\n${stdout}${stderr}`)
  })
}

export async function checkAll(s, world) {
  const rows = world.recorder.rows()
  let compared = 0
  await s.check('saved', async (bad) => { compared = await checkSaved(world, rows, bad) })
  s.landed('compared', compared) // saved values: without any, nothing that is there could have been invented
  for (const [what, fn] of Object.entries(ALL)) await s.check(what, (bad) => fn(world, rows, bad))
  return rows
}
