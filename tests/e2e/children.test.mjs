// Children on a real engine: a parent with a keyed child and three more, its worker
// killed at each point where it can die; a fan-out over ten thousand rows, cancelled
// in the middle; and what operators see of it.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const file = (name) => join(ROOT, 'tests/fixtures/workflows', name)
let engine
before(async () => {
  engine = await startEngine({ workers: 2, simulated: '', lease: '1s', args: ['--poll', '200ms'] })
  await engine.sql(`create table public.children_told (customer text, name text);
    create table public.children_rows (id bigint primary key, name text);
    grant select, insert on public.children_told, public.children_rows to holdpoint_workflow`)
  for (const f of ['stripe_customer.lua', 'notify.lua', 'trip.lua']) await ok(['deploy', file(f)])
})
after(() => engine?.stop())

async function ok(words) {
  const r = await engine.cli(words)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
async function start(workflow, input) {
  const r = await waitFor('a start', async () => {
    const s = await engine.api('POST', '/api/v1/runs', { workflow, input })
    return s.status < 300 && s
  })
  return r.body.run
}
const names = (...all) => all.map((name) => ({ name }))
const told = async (customer) => (await engine.sql(`select name from public.children_told
  where customer = '${customer}' order by 1`)).map(([n]) => n)

test("the guide's example is the one that is tested, here and by its own tests", async () => {
  assert.ok(readFileSync(join(ROOT, 'docs/authoring.md'), 'utf8').includes(readFileSync(file('trip.lua'), 'utf8')))
  assert.match(await ok(['test', file('trip_test.lua')]), /^5 passed, 0 failed$/m)
})

test('two trips of one user share their customer; everybody is told once', async () => {
  const a = await start('trip', { user: 'u1', travellers: names('ada', 'bob', 'cy') })
  const b = await start('trip', { user: 'u1', travellers: names('dan') })
  const doc = await engine.until(a, 'succeeded')
  await engine.until(b, 'succeeded')
  assert.deepEqual(doc.run.result, { customer: 'cus_u1', told: 3 })
  assert.deepEqual(doc.saved.told.items.map((i) => i.result.told), ['ada', 'bob', 'cy'])
  assert.deepEqual(await told('cus_u1'), ['ada', 'bob', 'cy', 'dan'])
  assert.equal((await engine.sql(`select from holdpoint.run where workflow = 'stripe_customer' and key = 'user:u1'`)).length, 0)
  assert.equal((await engine.sql(`select count(*) from holdpoint.run where workflow = 'stripe_customer' and key = 'user:u1'`))[0][0], '1')
  const shown = await ok(['show', String(a)])
  assert.match(shown, /notify: notify, 3 in all, 3 succeeded/)
  assert.match(shown, /customer: stripe_customer, 1 in all, 1 succeeded/)
  const kids = JSON.parse(await ok(['runs', '--parent', String(a), '--json'])).runs
  assert.equal(kids.length, 4)
  assert.match(await ok(['show', String(kids[0].run)]), new RegExp(`parent +run ${a}`))
  const page = (await engine.api('GET', `/api/v1/runs/${a}/children?limit=2`)).body
  assert.deepEqual(page.children.map((c) => [c.n, c.status, c.result.told]), [[1, 'succeeded', 'ada'], [2, 'succeeded', 'bob']])
  assert.equal(page.next, 2)
  assert.equal(page.family.succeeded, 3)
})

test("a child's failure is caught by its code, or held", async () => {
  const poor = await engine.until(await start('trip', { user: 'poor', travellers: [] }), 'failed')
  assert.equal(poor.run.code, 'declined')
  assert.equal(poor.run.result.message, 'the card of poor was declined')
  const bad = await engine.until(await start('trip', { user: 'u2', travellers: names('bad', 'bad', 'eve') }), 'failed')
  assert.equal(bad.run.code, 'lost')
  const some = await engine.until(await start('trip', { user: 'u3', travellers: names('bad', 'eve') }), 'succeeded')
  assert.equal(some.saved.told.failed, 1)
})

test('a parent that waits says for whom; cancelled, it ends after its child', async () => {
  const run = await start('trip', { user: 'slow', travellers: [] })
  const why = await waitFor('it waits for its child', async () => {
    const w = (await engine.api('GET', `/api/v1/runs/${run}/why`)).body
    return w.cause === 'children' && /waits in state "later"/.test(w.sentence) && w
  })
  const child = Number(/for its child, run (\d+) of workflow stripe_customer until .* Run \1 waits in state "later"/.exec(why.sentence)[1])
  assert.equal((await engine.api('POST', `/api/v1/runs/${run}/cancel`, { reason: 'over' })).status, 200)
  const doc = await engine.until(run, 'cancelled')
  const kid = await engine.until(child, 'cancelled')
  assert.ok(kid.run.finished_at <= doc.run.finished_at, 'the child ended first')
  assert.match((await engine.api('GET', `/api/v1/runs/${child}/why`)).body.sentence, new RegExp(`with run ${run}, which had started it`))
})

// One worker, so that it is the one that gets there; n: as far as it surely gets before it is over.
const deaths = { claim_acked: [1, 3], commit_before: [1, 3], park_acked: [1, 3], sql_ran: [1, 3], sql_committed: [1, 3] }
for (const [label, times] of Object.entries(deaths))
  for (const n of times)
    test(`a worker killed at ${label}:${n} neither loses nor repeats a child`, async () => {
      const user = `${label}${n}`
      engine.kill('supervisor', 'SIGTERM')
      await engine.ended
      engine.options.workers = 1
      engine.log.length = 0
      await engine.start({ env: { HP_CRASH: `${label}:${n}` } })
      const run = await start('trip', { user, travellers: names('ada', 'bob', 'cy') })
      const doc = await engine.until(run, 'succeeded', 30000)
      await engine.killed(`${label}:${n}`)
      assert.deepEqual(doc.run.result, { customer: `cus_${user}`, told: 3 })
      assert.deepEqual(await told(`cus_${user}`), ['ada', 'bob', 'cy'])
      assert.equal((await engine.sql(`select count(*) from holdpoint.child where run_id = ${run}`))[0][0], '4')
      assert.equal((await engine.sql(`select count(*) from holdpoint.run r join holdpoint.child c on c.child = r.id
        where c.run_id = ${run}`))[0][0], '4')
    })
