// A new version beside runs that live: what it changes, who stays, who would be stranded;
// runs that are moved and survive the death of everything; a run that goes back.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { startEngine, waitFor } from './lib/engine.mjs'

let engine, dir, file
before(async () => {
  engine = await startEngine({ workers: 2, lease: '1s', args: ['--poll', '200ms'] })
  dir = mkdtempSync(join(tmpdir(), 'holdpoint-deploy.'))
  file = join(dir, 'gate.lua')
})
after(async () => {
  rmSync(dir, { recursive: true })
  await engine?.stop()
})

const write = (wait, version, more = '') => writeFileSync(file, `return workflow "gate" {
  key = "{input.id}",
  wait "begin" { for_ = "1ms", next = "${wait}" },
  await "${wait}" { event = "go", key = "{input.id}", within = "1d", timeout = "late", save = "word" },${more}
  succeed "done" { result = { version = ${version}, word = "{word.text}" } },
  fail "late" {},
}
`)
const ok = async (words) => {
  const r = await engine.cli(words)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
const start = async (id) => {
  // the other worker loads a new version a moment later
  const out = await waitFor('it starts', () => ok(['start', 'gate', '--input', JSON.stringify({ id })]))
  const run = Number(out.match(/run (\d+)/)[1])
  await waitFor(`run ${run} waits for its event`, async () =>
    (await engine.api('GET', `/api/v1/runs/${run}/why`)).body.cause === 'event')
  return run
}
const go = (id) => ok(['event', 'send', 'go', id, '{"text":"hello"}'])
const result = async (run) => {
  await engine.until(run, 'succeeded')
  return (await engine.api('GET', `/api/v1/runs/${run}`)).body.run.result
}
let one, two

test('a first version, and runs that wait in it', async () => {
  write('door', 1)
  assert.match(await ok(['deploy', file]), /gate deployed as [0-9a-f]{12}\n {2}\+! a new workflow\n$/)
  one = await start('one')
  two = await start('two')
})

test('a dry run says what changes and who stays, and deploys nothing', async () => {
  const before = (await engine.api('GET', '/api/v1/workflows/gate/versions')).body
  write('gate', 2)
  const out = await ok(['deploy', file, '--dry-run'])
  assert.match(out, /^gate would be deployed as [0-9a-f]{12}\n/)
  assert.match(out, /^ {2}~ {2}begin: way "next" → "door" removed$/m)
  assert.match(out, /^ {2}\+ {2}gate: await$/m)
  assert.match(out, /^ {2}- {2}door: await$/m)
  assert.match(out, /^ {2}2 live runs stay with [0-9a-f]{12}: door 2$/m)
  assert.deepEqual((await engine.api('GET', '/api/v1/workflows/gate/versions')).body, before)
})

test('a move that strands a run names it and changes nothing', async () => {
  const before = (await engine.api('GET', '/api/v1/workflows/gate/versions')).body
  const tried = await ok(['deploy', file, '--dry-run', '--move-live', '--reason', 'renamed'])
  assert.match(tried, new RegExp(`stranded: run ${one} cannot be moved: its state "door" is not in that version`))
  const r = await engine.cli(['deploy', file, '--move-live', '--reason', 'renamed'])
  assert.equal(r.code, 5, r.stdout + r.stderr)
  assert.match(r.stderr, new RegExp(`nothing was deployed: 2 of 2 live runs would be stranded: ${one}, ${two}\\. The first: run ${one} cannot be moved`))
  assert.deepEqual((await engine.api('GET', '/api/v1/workflows/gate/versions')).body, before)
  assert.equal((await engine.cli(['deploy', file, '--move-live'])).code, 2)
})

test('moved runs go on in the new version, also when everything dies right after', async () => {
  const out = await ok(['deploy', file, '--move-live', '--map', 'door=gate', '--reason', 'renamed'])
  assert.match(out, /2 live runs moved/)
  engine.killAll()
  await engine.ended
  await engine.start()
  await go('one')
  assert.deepEqual(await result(one), { version: 2, word: 'hello' })
  const history = (await engine.api('GET', `/api/v1/runs/${one}/history`)).body.history
  const moved = history.find((h) => h.move === 'moved')
  assert.deepEqual([moved.from, moved.state, moved.by, moved.reason], ['door', 'gate', 'admin', 'renamed'])
  assert.ok(history.some((h) => h.rev < moved.rev && h.state === 'door')) // what was before keeps its names
})

test('a paused run goes back, and reads again what it is sent', async () => {
  await ok(['pause', String(two), '--reason', 'wait'])
  await ok(['retry', String(two), '--from', 'gate', '--reason', 'once more'])
  await ok(['resume', String(two)])
  await go('two')
  assert.deepEqual(await result(two), { version: 2, word: 'hello' })
  const moves = (await engine.api('GET', `/api/v1/runs/${two}/history`)).body.history.map((h) => h.move)
  assert.ok(moves.includes('restarted'), JSON.stringify(moves))
})

test('in bulk, a run that cannot is named and stops no other', async () => {
  const three = await start('three'), four = await start('four')
  write('door', 3)
  await ok(['deploy', file])
  const five = await start('five')
  const tried = await engine.cli(['bulk', 'move', '--workflow', 'gate', '--map', 'gate=door', '--reason', 'back', '--dry-run'])
  assert.equal(tried.code, 5)
  assert.match(tried.stdout, new RegExp(`run ${five} refused: .*it follows this version already\nmove: 2 would be done, 1 refused\n`))
  const moved = await engine.cli(['bulk', 'move', '--workflow', 'gate', '--map', 'gate=door', '--reason', 'back', '--limit', '1', '--json'])
  assert.equal(moved.code, 5, moved.stderr)
  const report = JSON.parse(moved.stdout)
  assert.deepEqual(report.results.map((r) => [r.run, r.outcome]), [[three, 'done'], [four, 'done'], [five, 'refused']])
  assert.match(await ok(['bulk', 'cancel', '--workflow', 'gate', '--reason', 'enough']), /cancel: 3 done, 0 refused/)
  for (const run of [three, four, five]) await engine.until(run, 'cancelled')
})

test('an event right after a deploy starts what was deployed, or is not taken', async () => {
  for (let i = 0; i < 5; i++) {
    const fresh = join(dir, `fresh_${i}.lua`)
    writeFileSync(fresh, `return workflow "fresh_${i}" {
  trigger = webhook { "duffel", events = { "fresh.${i}" } }, key = "{input.id}",
  succeed "done" {},
}
`)
    await ok(['deploy', fresh])
    const answers = await Promise.all(Array.from({ length: 8 }, (_, n) =>
      engine.webhook('duffel', { id: `wev_${i}_${n}`, type: `fresh.${i}`, data: { object: { id: `ord_${n}` } } })))
    for (const a of answers) {
      if (a.status === 200) assert.equal(a.body.runs.length, 1, JSON.stringify(a.body))
      else assert.equal(a.status, 503, JSON.stringify(a.body))
    }
    // whoever was told to come again is taken then
    await waitFor(`all of ${i} are taken`, async () => (await Promise.all(answers.map(async (a, n) => a.status === 200 ||
      (await engine.webhook('duffel', { id: `wev_${i}_${n}`, type: `fresh.${i}`, data: { object: { id: `ord_${n}` } } })).status === 200))).every(Boolean))
  }
  const [[runs]] = await engine.sql(`select count(*) from holdpoint.run where workflow like 'fresh_%'`)
  assert.equal(Number(runs), 40)
})

test('an event that only the version deployed just now can take is not refused by who knows the one before', async () => {
  const picky = join(dir, 'picky.lua')
  const deploy = async (n, input) => {
    writeFileSync(picky, `return workflow "picky_${n}" {
  trigger = webhook { "duffel", events = { "picky.${n}" } }, input = { data = { object = { seats = ${input} } } },
  succeed "done" {},
}
`)
    await ok(['deploy', picky])
  }
  const knock = (n, i) => engine.webhook('duffel', { id: `wev_picky_${n}_${i}`, type: `picky.${n}`, data: { object: { seats: 'two' } } })
  for (let n = 0; n < 3; n++) {
    await deploy(n, 'integer')
    await waitFor('both workers know it, and refuse', async () =>
      (await Promise.all(Array.from({ length: 8 }, (_, i) => knock(n, i)))).every((a) => a.status === 400 || a.status === 422))
    await deploy(n, 'text')
    for (const { status, body } of await Promise.all(Array.from({ length: 8 }, (_, i) => knock(n, i))))
      assert.ok(status === 200 || status === 503, `${status} ${JSON.stringify(body)}`)
  }
})
