// The tutorial of docs/authoring.md, run as written: its files are taken from the
// document, its commands are typed in a scratch folder, and what they print must be
// what the document shows.
//
// In the document a block "```LANG file=PATH" is a file, a "```console" block has
// commands after "$ " and their output, "…" on a line of its own stands for any
// lines. Times, durations, digests and made-up ids may differ, and nothing else.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { HP_BIN, ROOT, startEngine, waitFor } from './lib/engine.mjs'

const LOOKS = /^holdpoint (why|show|runs|approvals|history|events)\b/ // changes nothing, so it may be repeated
const document = readFileSync(join(ROOT, 'docs/authoring.md'), 'utf8')
const tutorial = document.slice(document.indexOf('\n## Tutorial\n'), document.indexOf('\n## Reference\n'))

/** [{ file, text }] and [{ command, output }], in the order of the page */
function steps() {
  const found = []
  for (const [, info, body] of tutorial.matchAll(/^```([^\n]*)\n([\s\S]*?)^```$/gm)) {
    const file = info.match(/file=(\S+)/)?.[1]
    if (file) found.push({ file, text: body })
    if (info !== 'console') continue
    for (const part of body.split(/^\$ /m).slice(1)) {
      const [command, ...output] = part.split('\n')
      found.push({ command, output: output.join('\n') })
    }
  }
  return found
}

// Columns follow the width of what stands in them, so blanks are compared as one.
const stable = (text) => text.trimEnd().split('\n').map((line) => line
  .replace(/\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+Z?)?/g, 'TIME')
  .replace(/\b\d\d:\d\d:\d\d\.\d{3}\b/g, 'TIME')
  .replace(/\+under 1ms/g, 'LATER ')
  .replace(/\+(\d+(ms|s|m|h) ?)+/g, 'LATER ')
  .replace(/^( *took) .*/, '$1 SOME TIME')
  .replace(/\b[0-9a-f]{12,64}\b/g, 'HEX')
  .replace(/\s+/g, ' ').trim())

/** Lines with "…" for any number of lines; returns the first expected line that is not there. */
function missing(expected, got, i = 0, j = 0) {
  for (; i < expected.length; i++, j++) {
    if (expected[i] === '…') {
      if (i + 1 === expected.length) return null
      for (let k = j; k < got.length; k++) if (missing(expected, got, i + 1, k) === null) return null
      return expected[i + 1]
    }
    if (expected[i] !== got[j]) return expected[i]
  }
  return j < got.length ? `nothing more, not "${got[j]}"` : null
}

let engine, folder
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdpoint-tutorial.'))
  mkdirSync(join(folder, '.bin'))
  symlinkSync(HP_BIN, join(folder, '.bin/holdpoint'))
})
after(async () => {
  try { await engine?.stop() } finally { rmSync(folder, { recursive: true, force: true }) }
})

function type(command) {
  return new Promise((done, fail) => {
    const child = spawn('bash', ['-c', `exec 2>&1; ${command}`], { cwd: folder, timeout: 60000, killSignal: 'SIGKILL',
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, PATH: `${join(folder, '.bin')}:${process.env.PATH}`, NO_COLOR: '1', HOLDPOINT_HOME: ROOT,
        HOLDPOINT_DATA: engine?.dataDir ?? '' } })
    let out = ''
    child.stdout.on('data', (d) => { out += d })
    child.on('error', fail)
    child.on('close', (code, signal) => signal ? fail(new Error(`${command}: ${signal} ${out}`)) : done(out))
  })
}

async function step({ file, text, command, output }) {
  if (file) {
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    writeFileSync(join(folder, file), text)
    return
  }
  const serve = command.match(/^holdpoint serve --simulated (\S+)$/)
  if (serve) {
    engine = await startEngine({ simulated: serve[1] })
    return
  }
  const expected = stable(output)
  const compare = async () => {
    const got = await type(command)
    const line = missing(expected, stable(got))
    assert.equal(line, null, `$ ${command}\nthe document says: ${line}\nbut it prints:\n${got}`)
    return true
  }
  // A reader who looks a moment too early looks again.
  if (LOOKS.test(command)) await waitFor(command, compare)
  else await compare()
}

test('the tutorial does what it says', { timeout: 300000 }, async () => {
  const all = steps()
  assert.ok(all.some((s) => s.command?.startsWith('holdpoint serve ')), 'the tutorial starts no engine')
  assert.ok(all.filter((s) => s.output).length > 15, 'the tutorial shows no output')
  for (const s of all) await step(s)
})

test('a document that lies is noticed', () => {
  const lines = ['run 1 started', 'a', 'b', 'c']
  assert.equal(missing(lines, lines), null)
  assert.equal(missing(['…', 'c'], lines), null)
  assert.equal(missing(['run 1 started', '…'], lines), null)
  assert.equal(missing(['run 1 started', 'a', 'b'], lines), 'nothing more, not "c"')
  assert.equal(missing(['run 1 started', '…', 'd'], lines), 'd')
  assert.equal(missing(['run 2 started', '…'], lines), 'run 2 started')
  assert.deepEqual(stable('took  3s 1ms\n12:00:00.000  +1s 4ms  held\n12:00:00.000 +under 1ms  held'),
    ['took SOME TIME', 'TIME LATER held', 'TIME LATER held'])
})
