// What is over goes by itself, also when an engine dies between two steps of it; what
// lives and what is kept stays, and a key says for ever that its run existed.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { startEngine, waitFor } from './lib/engine.mjs'

let engine, dir
before(async () => {
  engine = await startEngine({ workers: 1, lease: '1s', args: ['--poll', '200ms'] })
  dir = mkdtempSync(join(tmpdir(), 'holdpoint-retention.'))
})
after(async () => {
  rmSync(dir, { recursive: true })
  await engine?.stop()
})
const ok = async (words) => {
  const r = await engine.cli(words)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
const count = async (where) => Number((await engine.sql(`select count(*) from holdpoint.run r join holdpoint.run_state s on s.run_id = r.id where ${where}`))[0][0])
const age = () => engine.sql(`update holdpoint.history h set at = at - 86400000000 from holdpoint.run_state s
  where s.run_id = h.run_id and s.status > 3; update holdpoint.gc set passed_at = 0`)
const start = async (workflow, key) => JSON.parse(await ok(['start', workflow, '--key', key, '--json']))

test('runs end, and a dry run says which would go', async () => {
  for (const [name, head, body] of [['brief', 'retention = "1h",', ''], ['kept', '', ''],
    ['waits', 'retention = "1h",', 'wait "nap" { for_ = "1d" },']]) {
    const file = join(dir, `${name}.lua`)
    writeFileSync(file, `return workflow "${name}" { ${head} ${body} succeed "done" {} }\n`)
    await ok(['deploy', file])
  }
  for (let i = 0; i < 20; i++) await start('brief', `b${i}`)
  await start('kept', 'k1')
  await start('waits', 'w1')
  await waitFor('they end', async () => await count('s.status = 4') === 21)
  assert.equal(await ok(['gc', '--dry-run']), 'Nothing is over.\n')
  await age()
  assert.match(await ok(['gc', '--dry-run']), /^brief: 20 runs would be removed\npartition 0: 20 of its runs are over, 2 stay\n$/)
  assert.equal(await count('true'), 22)
})

for (const death of ['gc_stepped:1', 'gc_stepped:2', 'gc_before:2'])
  test(`a worker that dies at ${death} leaves the rest to the next one`, async () => {
    if (death !== 'gc_stepped:1') { // as many again
      for (let i = 0; i < 20; i++) await start('brief', `${death}${i}`)
      await waitFor('they end', async () => await count("s.status = 4 and r.workflow = 'brief'") === 20)
    }
    engine.kill('worker-1', 'SIGSTOP') // it must not be quicker than the one that dies
    await age()
    engine.killAll()
    await engine.ended
    engine.log.length = 0
    await engine.start({ env: { HP_CRASH: death } })
    await engine.killed(death, 30000)
    await waitFor('what is over is gone', async () => await count("r.workflow = 'brief'") === 0, 30000)
    assert.equal(await count('true'), 2)
    assert.equal((await engine.sql('select count(*) from holdpoint.history where run_id not in (select id from holdpoint.run)'))[0][0], '0')
  })

test('its key is taken for ever, its number is not there any more', async () => {
  const again = await start('brief', 'b3')
  assert.equal(again.existed, true)
  const r = await engine.cli(['show', String(again.run)])
  assert.equal(r.code, 4)
  assert.match(r.stderr, /there is no run \d+/)
  assert.equal(await ok(['gc']), '0 runs removed\n')
})
