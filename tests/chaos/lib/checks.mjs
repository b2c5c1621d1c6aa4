// checks.mjs: what must be true when every run has ended: the recorder's file, the
// database and the workflows' own tables are laid side by side.
//
//   await checkAll(s, world)      every one of them, each counted as a check of scenario s
//
// Each takes (world, rows, bad): rows are the recorder's, bad(text) says what is wrong.
import { waitFor } from '../../e2e/lib/engine.mjs'
import { ROWS } from './world.mjs'

export const group = (rows, of) => rows.reduce((m, row) => m.set(of(row), [...(m.get(of(row)) ?? []), row]), new Map())

/** The recorder's word: one effect per key, the same bytes under it, one key per visit. */
export function checkRecorder(world, rows, bad) {
  for (const [key, of] of group(rows, (x) => `${x.op} ${x.key}`)) {
    const acts = of.reduce((n, x) => n + x.acts, 0)
    if (acts > 1) bad(`${key}: ${acts} effects`)
    if (new Set(of.map((x) => x.body)).size > 1) bad(`${key}: different requests under one key`)
  }
  for (const [tag, of] of group(rows, (x) => `${x.op} ${x.tag}`))
    if (new Set(of.map((x) => x.key)).size > 1) bad(`${tag}: sent under two keys`)
}

/** Nothing committed that never happened, nothing sent that was not admitted, nothing lost. */
export async function checkEngine(world, rows, bad) {
  const sql = (text) => world.sql(text)
  const acted = new Set(rows.filter((x) => x.acts).map((x) => x.tag))
  const sent = new Set(rows.filter((x) => x.op !== 'undo').map((x) => x.tag))
  for (const [run, name] of await sql(`select distinct run_id, name from holdpoint.saved where name ~ '_(put|once)$' or name = 'put'`))
    if (!acted.has(`${run}/${name}`)) bad(`run ${run} saved ${name}, and the recorder has no such effect`)
  const admitted = new Set((await sql(`select distinct h.run_id, holdpoint.state_name(r.digest, h.state) from holdpoint.history h
    join holdpoint.run r on r.id = h.run_id where h.flags & 1 <> 0`)).map(([run, state]) => `${run}/${state}`))
  for (const tag of sent) if (!admitted.has(tag)) bad(`${tag} was sent and never admitted`)
  for (const [run, state, n] of await sql('select run, state, count(*) from public.chaos_ledger group by 1, 2 having count(*) <> 1 or max(undone) > 1'))
    bad(`run ${run}: the statement of ${state} is there ${n} times, or undone twice`)
  for (const [run, state, n] of await sql(`select run, state, count(*) from public.chaos_swept group by 1, 2 having count(*) <> ${ROWS} or count(distinct id) <> count(*)`)) {
    const whole = (await sql(`select count(*) from holdpoint.saved where run_id = ${run} and name = '${state}'`))[0][0]
    if (whole !== '0' || Number(n) > ROWS) bad(`run ${run}: ${state} swept ${n} rows instead of ${ROWS}`)
  }
  for (const [run] of await sql(`select h.run_id from holdpoint.history h where h.seq = 0 group by 1
      having max(h.rev) <> max(h.rev) filter (where h.move = 9)`)) bad(`run ${run} moved after its end`)
  for (const [run] of await sql(`select run_id from holdpoint.history group by 1 having count(distinct visit) <> max(visit)`))
    bad(`run ${run}: a visit is missing`)
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

const ALL = { recorder: checkRecorder, engine: checkEngine, undo: checkUndo, limits: checkLimits, why: checkWhy }

export async function checkAll(s, world) {
  const rows = world.recorder.rows()
  for (const [what, fn] of Object.entries(ALL)) await s.check(what, (bad) => fn(world, rows, bad))
  return rows
}
