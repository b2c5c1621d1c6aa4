// scenario.mjs: what every scenario is: options, a seed, a table of results, an end.
//
//   scenario('database', { time: 60, short: 15 }, async (s) => {
//     s.o                          { time, seed, short, … }: time is `short` seconds with --short
//     s.world({ … })               a World (world.mjs) that is ended with the scenario
//     s.say('commits', '12 lost')  a line of the table
//     s.landed('kills', n, 1)      a line, and wrong when there were fewer than `least`
//     s.bad('…')                   a line WRONG …
//     await s.check('fsck', fn)    counted; fn(bad) says what is wrong
//     s.end(fn)                    fn() at the end, however it ends
//     s.skip('needs root')         says so, and the summary of scripts/chaos.sh, too
//   })
//
// On the command line: --time S --seed N --short, and a number for each further name in
// the defaults. The last line is "NAME: N checks, M wrong (…)"; the exit status 0 or 1.
import { World } from './world.mjs'

const WRONG_MAX = 30

function options(name, defaults, words) {
  const { short = defaults.time, ...rest } = defaults
  const o = { seed: Date.now() % 2 ** 31, ...rest }
  const isShort = words.includes('--short')
  if (isShort) o.time = short
  const left = words.filter((w) => w !== '--short')
  for (let i = 0; i < left.length; i += 2) {
    const key = left[i].replace(/^--/, '')
    if (!left[i].startsWith('--') || !(key in o) || !/^\d+$/.test(left[i + 1] ?? ''))
      throw new Error(`${name}: ${left[i]}: there are --short and, with a number, --${Object.keys(o).join(', --')}`)
    o[key] = Number(left[i + 1])
  }
  return { ...o, short: isShort }
}

class Scenario {
  constructor(name, o) {
    Object.assign(this, { name, o, wrong: [], checks: 0, skipped: [], worlds: [], ends: [], began: Date.now() })
    this.bad = this.bad.bind(this)
  }

  say(label, text) { console.log(`  ${label.padEnd(14)} ${text}`) }
  /** Seconds since it began. */
  elapsed() { return Math.round((Date.now() - this.began) / 1000) }
  bad(text) { this.wrong.push(text) }

  landed(what, n, least = 1) {
    this.checks++
    this.say(what, String(n))
    if (n < least) this.bad(`${what}: ${n} of at least ${least} landed: this run proves nothing`)
  }

  async check(what, fn) {
    this.checks++
    await fn((text) => this.bad(`${what}: ${text}`))
  }

  end(fn) { this.ends.push(fn) }

  skip(why) {
    this.skipped.push(why)
    console.log(`  skipped: ${why}`)
  }

  world(o = {}) {
    const world = new World({ seed: this.o.seed, ...o })
    this.worlds.push(world)
    return world
  }
}

export async function scenario(name, defaults, body) {
  const s = new Scenario(name, options(name, defaults, process.argv.slice(2)))
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => process.exit(143)) // engines are killed by 'exit'
  console.log(`${name}: ${s.o.time} s, seed ${s.o.seed}${s.o.short ? ', the short form' : ''}`)
  try {
    await body(s)
  } catch (e) {
    s.bad(`${e.stack}\n${s.worlds.map((w) => w.engine?.tail?.(30) ?? '').join('\n')}`)
  }
  for (const fn of s.ends) await fn()
  for (const world of s.worlds) await world.end().catch((e) => s.bad(e.message))
  for (const text of s.wrong.slice(0, WRONG_MAX)) console.log(`  WRONG ${text}`)
  console.log(`${name}: ${s.checks} checks, ${s.wrong.length} wrong (seed ${s.o.seed}, ${s.elapsed()} s)${
    s.skipped.length ? `, skipped: ${s.skipped.join(', ')}` : ''}`)
  process.exit(s.wrong.length ? 1 : 0)
}
