// docs/plugins.md as written: its files are made, its commands typed, and the plugin it
// builds answers a run of a real engine. The header also compiles as strict C99 and C++.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { HP_BIN, ROOT, startEngine, waitFor } from './lib/engine.mjs'

const HEADER = join(ROOT, 'engine/plugin')
let folder
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdpoint-guide.'))
  chmodSync(folder, 0o755)
  mkdirSync(join(folder, '.bin'))
  symlinkSync(HP_BIN, join(folder, '.bin/holdpoint'))
})
after(() => rmSync(folder, { recursive: true, force: true }))

const type = (command) => execFileSync('bash', ['-c', `exec 2>&1; ${command}`], { cwd: folder, encoding: 'utf8', timeout: 60000,
  env: { ...process.env, PATH: `${join(folder, '.bin')}:${process.env.PATH}`, NO_COLOR: '1', CPATH: HEADER } })

test('the guide does what it says', () => {
  let commands = 0
  for (const [, info, body] of readFileSync(join(ROOT, 'docs/plugins.md'), 'utf8').matchAll(/^```([^\n]*)\n([\s\S]*?)^```$/gm)) {
    const file = info.match(/file=(\S+)/)?.[1]
    if (file) {
      mkdirSync(dirname(join(folder, file)), { recursive: true })
      writeFileSync(join(folder, file), body)
    }
    if (info !== 'console') continue
    for (const part of body.split(/^\$ /m).slice(1)) {
      const [command, ...shown] = part.trimEnd().split('\n')
      const lines = type(command).trimEnd().split('\n').filter(Boolean)
      const from = shown[0] === '…' ? lines.length - shown.length + 1 : 0
      assert.deepEqual(lines.slice(from), shown.filter((l) => l !== '…'), `$ ${command}\n${lines.join('\n')}`)
      commands++
    }
  }
  assert.ok(commands >= 6)
})

test('the plugin of the guide answers a run', async () => {
  const listening = createServer((s) => s.destroy())
  await new Promise((done) => listening.listen(0, '127.0.0.1', done))
  const plugins = join(folder, 'plugins')
  const engine = await startEngine({ simulated: '', args: ['--plugins', plugins] })
  try {
    assert.equal((await engine.cli(['deploy', join(folder, 'workflows/port_check.lua'), '--plugins', plugins])).code, 0)
    const knock = async (port) => {
      const r = await waitFor('it is loaded', async () => {
        const r = await engine.api('POST', '/api/v1/runs', { workflow: 'port_check', input: { address: '127.0.0.1', port } })
        return r.status !== 503 && r
      })
      return (await engine.until(r.body.run, 'succeeded', 30000)).run.state
    }
    assert.equal(await knock(listening.address().port), 'open')
    assert.equal(await knock(1), 'closed')
  } finally {
    listening.close()
    await engine.stop()
  }
})

test('the header is C99 and C++', () => {
  const program = '#include <hp_plugin.h>\nint main(void) { struct hp_call c; return (int)sizeof c == 0; }\n'
  const strict = ['-fsyntax-only', '-Wall', '-Wextra', '-Werror', '-pedantic', '-I', HEADER]
  const c = spawnSync('cc', [...strict, '-std=c99', '-x', 'c', '-'], { input: program, encoding: 'utf8' })
  assert.equal(c.status, 0, c.stderr)
  const cpp = spawnSync('c++', [...strict, '-std=c++11', '-x', 'c++', '-'], { input: program, encoding: 'utf8' })
  if (!cpp.error) assert.equal(cpp.status, 0, cpp.stderr) // a machine may have no C++ compiler
})
