// lib.mjs: the programs under judgement, started and stopped.
//
// HP_BIN is the program, HP_BUILD its build directory; both come from make.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import Stripe from 'stripe';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const build = path.resolve(root, process.env.HP_BUILD ?? 'build');
const program = path.resolve(root, process.env.HP_BIN ?? path.join(build, 'holdpoint'));
export const webhookSecret = 'whsec_judges_secret';

// A simulated provider on a free port; stop() waits for its end.
export async function startFake(name, args = []) {
  const child = spawn(program, ['fake', name, '--listen', '127.0.0.1:0', '--plugins', path.join(root, 'plugins'), ...args], {
    env: { ...process.env, STRIPE_WEBHOOK_SECRET: webhookSecret },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const line = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line').then(([text]) => text),
    ended.then(([code]) => { throw new Error(`holdpoint fake ${name} ended with ${code} before it answered`); }),
  ]);
  const port = Number(/port (\d+)/.exec(line)?.[1]);
  if (!port) throw new Error(`no port in "${line}"`);
  const post = async (where, body) => {
    const r = await fetch(`http://127.0.0.1:${port}/_fake/${where}`, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    if (!r.ok) throw new Error(`/_fake/${where}: ${r.status} ${await r.text()}`);
    return r.json();
  };
  return {
    port,
    emit: (event) => post('emit', event),
    fault: (fault) => post('faults', fault),
    state: async () => (await fetch(`http://127.0.0.1:${port}/_fake/state`)).json(),
    stop: async () => { child.kill('SIGTERM'); await ended; },
  };
}

// The official client, as an application would make it.
export const client = (port, options = {}) => new Stripe(options.key ?? 'sk_test_judges', {
  host: '127.0.0.1', port, protocol: 'http', maxNetworkRetries: options.retries ?? 0, telemetry: false,
});

// What the official client's receiver would get: raw bodies with their headers.
export async function startReceiver() {
  const got = [], waiting = [];
  const server = createServer(async (req, res) => {
    const parts = [];
    for await (const part of req) parts.push(part);
    got.push({ url: req.url, headers: req.headers, body: Buffer.concat(parts) });
    res.writeHead(204).end();
    waiting.splice(0).forEach((wake) => wake());
  });
  await new Promise((up) => server.listen(0, '127.0.0.1', up));
  return {
    got,
    url: `http://127.0.0.1:${server.address().port}`,
    // Resolves when enough(got) holds; the test's own time limit bounds it.
    until: async (enough) => { while (!enough(got)) await new Promise((wake) => waiting.push(wake)); },
    stop: () => new Promise((down) => { server.close(down); server.closeAllConnections(); }),
  };
}

// Our verifier: tests/unit/core_signature.c with arguments.
export function verify(scheme, headers, body, nowSeconds, ...secrets) {
  const input = Buffer.concat([
    Buffer.from(Object.entries(headers).map(([k, v]) => `${k}: ${v}\n`).join('') + '\n'), Buffer.from(body)]);
  const r = spawnSync(path.join(build, 'tests/core_signature'),
    [scheme, String(Math.round(nowSeconds * 1e6)), ...secrets], { input, encoding: 'utf8' });
  if (r.error) throw r.error;
  if (r.status !== 0) throw new Error(r.stderr);
  return r.stdout.trim();
}
