// Limits on a real engine: a hundred runs over two workers, which are killed at random
// points of the work, never exceed a budget of ten; what an operator sees and sets; runs
// of one member one after the other, whoever dies.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const file = (name) => join(ROOT, 'tests/fixtures/workflows', name)
let engine
before(async () => { engine = await startEngine({ workers: 2, lease: '1s', args: ['--poll', '100ms'] }) })
after(() => engine?.stop())

async function ok(words) {
  const r = await engine.cli(words)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
const mails = async () => (await engine.fake('resend', 'GET', '/_fake/state')).body.requests
  .filter((q) => q.method === 'POST' && q.path === '/emails')
const keys = async () => new Set((await mails()).map((q) => q.key)).size
let n = 0
/** Under a key, so that it may be asked again when the worker that was asked is killed. */
const start = (workflow, input) => {
  const key = `start ${++n}`
  return waitFor(`${key} is answered`, async () => {
    const r = await engine.api('POST', '/api/v1/runs', { workflow, input, key })
    assert.ok(r.status === 200 || r.status === 201, JSON.stringify(r.body))
    return r.body.run
  })
}
const count = async (where) => Number((await engine.sql(`select count(*) from holdpoint.run_state s
  join holdpoint.run r on r.id = s.run_id where ${where}`))[0][0])
let kills = 0
const killWorker = async () => { // one, then the other, so that both die now and then
  const name = `worker-${kills++ % 2 + 1}`
  await waitFor(`${name} runs`, () => engine.pids()[name])
  await engine.gone(engine.kill(name))
}

test("the guide's example is the one that is tested", async () => {
  const text = readFileSync(file('remind.lua'), 'utf8')
  assert.ok(readFileSync(join(ROOT, 'docs/authoring.md'), 'utf8').includes(text))
  await ok(['check', file('remind.lua')])
  await ok(['deploy', file('remind.lua')])
  assert.match(await ok(['budget', 'list']), /reminders +- +10 +1h +window +0 +0 +remind/)
})

test('a hundred runs, killed workers: never more than the budget', async () => {
  // a window that no test crosses
  assert.match(await ok(['budget', 'set', 'reminders', '--limit', '10', '--window', '3650d', '--reason', 'a test']), /^reminders: 10 in 3650d/)
  const runs = []
  for (let i = 0; i < 100; i++) {
    runs.push(await start('remind', { member: i, to: `m${i}@example.com` }))
    if (i % 20 === 10) await killWorker()
  }
  await waitFor('ten have sent, ninety wait', async () => {
    const done = await count(`r.workflow = 'remind' and s.status = 4`)
    const waiting = await count(`r.workflow = 'remind' and s.phase = 7`)
    if (done === 10 && waiting === 90) return true
    const rest = await engine.sql(`select to_jsonb(s) from holdpoint.run_state s where status <> 4 and phase <> 7`)
    throw new Error(`${done} done, ${waiting} wait; ${JSON.stringify(rest)}`)
  }, 60000)
  assert.equal(await keys(), 10)
  const waits = await engine.sql(`select p.run_id from holdpoint.permit p join holdpoint.limiter l on l.id = p.limiter_id
    join holdpoint.run_state s on s.run_id = p.run_id where s.phase = 7 and l.kind = 'budget' order by p.at, p.rank, p.run_id`)
  assert.equal(waits.length, 90)
  const last = (await engine.api('GET', `/api/v1/runs/${waits.at(-1)[0]}/why`)).body
  assert.match(last.sentence, /waits in state "send" for the budget reminders: all 10 are used until .*; 89 before it/)
  const shown = JSON.parse(await ok(['budget', 'show', 'reminders', '--json']))
  assert.deepEqual([shown.keys[0].used, shown.keys[0].limit, shown.keys[0].waiting], [10, 10, 90])
  assert.match(await ok(['budget', 'show', 'reminders']), /reminders: 10 in 3650d \(window\), set by admin: a test\n {2}\(no key\) {2}10 of 10 used until .*, 90 waiting/)
  const metrics = await engine.api('GET', '/metrics')
  assert.match(metrics.text ?? metrics.body, /holdpoint_budget_waiting\{budget="reminders"\} 90/)
})

test('a larger budget lets them go at once, each once', async () => {
  await ok(['budget', 'set', 'reminders', '--limit', '60', '--reason', 'the boss said so'])
  await waitFor('sixty have sent', async () => await count(`r.workflow = 'remind' and s.status = 4`) === 60)
  await killWorker()
  await ok(['budget', 'set', 'reminders', '--limit', '1000', '--reason', 'the boss said so'])
  await waitFor('all have sent', async () => await count(`r.workflow = 'remind' and s.status = 4`) === 100, 60000)
  assert.equal(await keys(), 100)
  assert.equal((await engine.sql(`select count(*) from holdpoint.permit`))[0][0], '0')
  assert.match(await ok(['budget', 'unset', 'reminders']), /reminders: 10 again/)
  const unknown = await engine.cli(['budget', 'show', 'remindres'])
  assert.equal(unknown.code, 4)
  assert.match(unknown.stderr, /there is no budget "remindres"/)
})

test('runs of one member never overlap, although their workers die', async () => {
  await ok(['budget', 'set', 'reminders', '--limit', '1000', '--window', '3650d', '--reason', 'a test'])
  const runs = []
  for (let i = 0; i < 12; i++) runs.push(await start('remind', { member: 7, to: 'seven@example.com' }))
  assert.match(await ok(['limits']), /exclusive +- +member:7 +1 /)
  for (let i = 0; i < 3; i++) await killWorker()
  for (const run of runs) await engine.until(run, 'succeeded', 60000)
  const spans = await engine.sql(`select min(h.at) filter (where h.rev > 0), max(h.at), h.run_id from holdpoint.history h
    where h.run_id in (${runs.join(',')}) group by h.run_id order by 1`)
  for (let i = 1; i < spans.length; i++) assert.ok(Number(spans[i][0]) >= Number(spans[i - 1][1]), `run ${spans[i][2]} began too early`)
  assert.deepEqual(spans.map((s) => Number(s[2])), runs)
  assert.equal((await engine.sql(`select count(*) from holdpoint.permit`))[0][0], '0')
})

test('an unknown budget is refused with the deployment', async () => {
  const { mkdtempSync, rmSync, writeFileSync } = await import('node:fs')
  const dir = mkdtempSync('/tmp/hp-limits-')
  try {
    writeFileSync(join(dir, 'lost.lua'), readFileSync(file('remind.lua'), 'utf8').replace('"remind"', '"lost"')
      .replace(/ {2}budgets .*\n/, '').replace('"reminders", over', '"rimenders", over'))
    const r = await engine.cli(['deploy', join(dir, 'lost.lua')])
    assert.equal(r.code, 2, r.stderr)
    assert.match(r.stderr, /workflow "lost" spends of the budget "rimenders", which nobody has set/)
  } finally { rmSync(dir, { recursive: true }) }
})
