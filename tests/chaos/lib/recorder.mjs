// recorder.mjs: the recorder (recorder_process.mjs) from the scenario's side.
//
//   const recorder = await new Recorder(dir, seed).start()
//   recorder.url      where it listens, on loopback
//   recorder.calm()   from now on it answers every request well
//   recorder.rows()   every request so far: { op, key, tag, body, acts, id, fault, n, at }
//   recorder.stop()
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const PROCESS = join(dirname(fileURLToPath(import.meta.url)), 'recorder_process.mjs')

export class Recorder {
  constructor(dir, seed) {
    this.file = join(dir, 'recorder.jsonl')
    this.child = spawn(process.execPath, [PROCESS, this.file, String(seed)], { stdio: ['pipe', 'pipe', 'inherit'] })
  }

  async start() {
    for await (const line of createInterface({ input: this.child.stdout })) { this.url = `http://127.0.0.1:${line}`; return this }
    throw new Error('the recorder did not start')
  }

  calm() { return fetch(`${this.url}/calm`, { method: 'POST' }) }
  rows() { return readFileSync(this.file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)) }
  stop() { this.child.stdin.end() }
}
