// Native plugins on a real engine: what they do wrong costs their own calls, is said
// clearly, and stops nobody else. probe is tests/plugins/probe.c, broken speaks another ABI.
import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync, chmodSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const BUILT = join(ROOT, process.env.HP_BUILD || 'build', 'tests/plugins')
let engine, folder, plugins
const source = (name) => readFileSync(join(ROOT, 'tests/fixtures/plugins/probe/connector.lua'), 'utf8').replaceAll('probe', name)
const text = (name, body) => `local probe = connector "probe"\nreturn workflow "${name}" {\n${body}\n}\n`
const write = (name, body) => {
  const path = join(folder, `${name}.lua`)
  writeFileSync(path, text(name, body))
  return path
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdpoint-plugins.'))
  chmodSync(folder, 0o755)
  plugins = join(folder, 'plugins')
  for (const [name, so] of [['probe', 'probe/probe.so'], ['broken', 'bad_abi/bad_abi.so']]) {
    mkdirSync(join(plugins, name), { recursive: true })
    writeFileSync(join(plugins, name, 'connector.lua'), source(name))
    copyFileSync(join(BUILT, so), join(plugins, name, `${name}.so`))
  }
  engine = await startEngine({ simulated: '', args: ['--plugins', plugins, '--base-url', 'probe=over there'] })
})
after(async () => {
  try { await engine?.stop() } finally { if (folder) rmSync(folder, { recursive: true, force: true }) }
})

async function deploy(name, body) {
  const r = await engine.cli(['deploy', write(name, body), '--plugins', plugins])
  assert.equal(r.code, 0, r.stderr)
}
async function start(workflow, input = {}) {
  const r = await waitFor(`${workflow} is loaded`, async () => {
    const r = await engine.api('POST', '/api/v1/runs', { workflow, input })
    return r.status !== 503 && r
  })
  assert.equal(r.status, 201, JSON.stringify(r.body))
  return r.body.run
}
// processes of plugins: children of the worker
const hosts = () => {
  const worker = engine.pids()['worker-1']
  return readdirSync('/proc').filter((p) => /^\d+$/.test(p)).filter((p) => {
    try {
      return readFileSync(`/proc/${p}/cmdline`, 'utf8').split('\0')[1] === 'plugin-host' &&
        Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${p}/status`, 'utf8'))[1]) === worker
    } catch { return false }
  }).map(Number)
}

test('a native operation is called like any other', async () => {
  await deploy('hello', `
    call "ask" { probe.echo, with = { text = "hi {input.name}" }, save = "heard" },
    call "timed" { probe.timed, with = { a = 1 }, save = "timed" },
    succeed "done" { result = "{heard}" }`)
  const run = await start('hello', { name: 'Ada' })
  const doc = await engine.until(run, 'succeeded')
  const shown = JSON.stringify(doc)
  assert.match(shown, /"text":"hi Ada"/)
  assert.match(shown, /"endpoint":"over there"/)
  assert.match(shown, /"header":"plain"/)
  assert.match(shown, /database=no secret=no/) // the process has nothing of ours
  assert.match(shown, /"said":"in time","status":200/)
  assert.equal(hosts().length, 1)
})

test('crash, hang and silence cost their own calls; other runs go on', async () => {
  // a process that ended often is started a little later: the timeout of the first three allows for that
  const bad = (operation, timeout = '20s') => `
    call "bad" { probe.${operation}, timeout = "${timeout}", retry = { attempts = 2, base = "10ms", cap = "10ms" },
      catch = { plugin_crashed = "crashed", timeout = "late" } },
    succeed "done" {}, succeed "crashed" {}, succeed "late" {}`
  await deploy('crashes', bad('crash'))
  await deploy('hangs', bad('hang', '1s'))
  await deploy('exits', bad('leave'))
  await deploy('babbles', bad('garbage'))
  await deploy('ticks', `succeed "done" {}`)
  const ends = async (workflow) => {
    const run = await start(workflow)
    let n = 0, doc
    // the engine is as quick as ever for everybody else, all the time
    do {
      await engine.until(await start('ticks'), 'succeeded', 4000)
      n++
      doc = (await engine.api('GET', `/api/v1/runs/${run}`)).body
    } while (!['succeeded', 'held'].includes(doc.run.status))
    return [doc.run.state, n]
  }
  const [state, others] = await ends('hangs')
  assert.equal(state, 'late')
  assert.ok(others > 0)
  for (const w of ['crashes', 'exits', 'babbles']) assert.equal((await ends(w))[0], 'crashed', w)
  const metrics = (await engine.api('GET', '/metrics', undefined, { token: null })).body
  assert.match(metrics, /^holdpoint_plugin_crashes_total\{plugin="probe"\} [1-9]/m)
  // and the plugin itself is there again
  await engine.until(await start('hello', { name: 'Eve' }), 'succeeded', 30000)
})

test('a plugin of another ABI: check, deploy and the run say so', async () => {
  const path = join(folder, 'odd.lua')
  writeFileSync(path, `local broken = connector "broken"\nreturn workflow "odd" {
    call "ask" { broken.echo, with = { text = "x" } },\n    succeed "done" {} }\n`)
  const sentence = /plugin broken cannot be used: it was built for plugin ABI 7; this engine speaks ABI 1\. Build it again/
  const checked = await engine.cli(['check', path, '--plugins', plugins])
  assert.equal(checked.code, 2)
  assert.match(checked.stdout, sentence)
  assert.match(checked.stdout, /\[native_plugin\]/)
  const refused = await engine.cli(['deploy', path, '--plugins', plugins])
  assert.equal(refused.code, 2)
  assert.match(refused.stderr, sentence)
  // deployed all the same, from a machine that has a good one: the run waits for a person
  const bundle = { workflow: { file: 'odd.lua', source: readFileSync(path, 'utf8') },
    connectors: { broken: { file: 'plugins/broken/connector.lua', source: source('broken') } } }
  const r = await engine.api('POST', '/api/v1/workflows', { bundle })
  assert.equal(r.status, 200, JSON.stringify(r.body))
  const run = await start('odd')
  await engine.until(run, 'held')
  const why = await engine.cli(['why', String(run)])
  assert.match(why.stdout, sentence)
})

test('an operation that the plugin does not have is found by check', async () => {
  const other = join(folder, 'other')
  mkdirSync(join(other, 'probe'), { recursive: true })
  writeFileSync(join(other, 'probe/connector.lua'), source('probe').replace('operations = {', 'operations = { ["shouts.loud"] = { read = true },'))
  copyFileSync(join(BUILT, 'probe/probe.so'), join(other, 'probe/probe.so'))
  const r = await engine.cli(['check', write('loud', 'call "a" { probe.shouts.loud }, succeed "done" {}'), '--plugins', other])
  assert.equal(r.code, 2)
  assert.match(r.stdout, /\[native_operation\] operation "shouts\.loud": the plugin probe 1\.2\.3 has no activity of that name/)
})

test('a worker that is killed takes its plugins along, and the call is made again under its key', async () => {
  await deploy('keyed', `
    call "wait" { probe.silent, with = { note = "{input.file}" }, key = "order:{input.id}", timeout = "1s", retry = { attempts = 2, base = "10ms" },
      catch = { timeout = "late" } },
    succeed "done" {}, succeed "late" {}`)
  await engine.until(await start('hello', { name: 'first' }), 'succeeded')
  const [host] = hosts()
  const file = join(folder, 'keys')
  writeFileSync(file, '')
  chmodSync(file, 0o666) // plugins run as the service user
  const keys = () => readFileSync(file, 'utf8').split('\n').filter((l) => l)
  const run = await start('keyed', { id: 7, file })
  await waitFor('it is called', () => keys().length > 0)
  const pid = engine.kill('worker')
  await engine.gone(pid)
  await engine.gone(host)
  const doc = await engine.until(run, 'succeeded', 40000)
  assert.equal(doc.run.state, 'late')
  assert.ok(keys().length >= 2, keys().join())
  assert.equal(new Set(keys()).size, 1, keys().join())
})
