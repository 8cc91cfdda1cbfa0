// Opens the dashboard in Chromium, at the admin endpoint and as a handler, breaks a service and
// closes its circuit breaker by a click.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const { MODULES, BINARY, WORK, CHROMIUM, DASHBOARD_SCREENSHOT } = process.env;
const require = createRequire(join(MODULES, "x.js"));
const puppeteer = (await import(require.resolve("puppeteer-core"))).default;
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

function serve(handler) {
  return new Promise((resolve) => {
    const server = createServer(handler);
    server.listen(0, "127.0.0.1", () => resolve({ server, origin: `http://127.0.0.1:${server.address().port}` }));
  });
}

let broken = false;
// Names that are HTML, and for the screenshot some that are not.
const markup = DASHBOARD_SCREENSHOT ? "people/{id}/friends" : "<b onclick=x>bold</b><script>window.hurt=1</script>";
const site = DASHBOARD_SCREENSHOT ? "shop" : "<b>shop</b>";
const backend = await serve((q, a) => {
  if (q.url === "/openapi.json") {
    a.setHeader("Content-Type", "application/json");
    a.end(JSON.stringify({
      openapi: "3.0.3", info: { title: markup, version: "1" },
      paths: Object.fromEntries(["/people", "/people/{id}", "/unused", `/${markup}`].map((path) => [path, { get: { responses: { 200: { description: "ok" } } } }])),
    }));
    return;
  }
  const fails = broken && q.headers["x-service"] === "users";
  a.statusCode = fails ? 500 : q.url === "/missing" ? 404 : 200;
  a.setHeader("Cache-Control", q.url === "/items" ? "max-age=5" : "no-store");
  setTimeout(() => a.end("{}"), 5 + 40 * Math.random() ** 4);
});
const places = [];
for (let i = 0; i < 3; i++) places.push(await serve(() => {}));
const [gateway, admin, inside] = places.map((p) => p.origin);
for (const p of places) await new Promise((done) => p.server.close(done));

writeFileSync(join(WORK, "Caddyfile"), `{
	admin ${admin.slice(7)} {
		origins "" ${admin.slice(7)}
	}
	auto_https off
}
${gateway} {
	telemetry {
		services /api/ users orders idle
		site ${site}
	}
	guard
	ratelimit 100000/s
	api_docs {
		service users ${backend.origin}
	}
	http_cache
	handle_path /api/users/* {
		circuit_breaker users {
			consecutive 3
			open_for    10m
		}
		reverse_proxy ${backend.origin} {
			header_up X-Service users
		}
	}
	handle_path /api/orders/* {
		circuit_breaker orders {
			key {http.request.header.X-Key}
		}
		reverse_proxy ${backend.origin}
	}
}
${inside} {
	basic_auth {
		ann $2a$14$yqtQZwXCBR0Yce/Pj1aVr.gfUZAn4Ou6gm.W8QxeIX1SqCVzfHZWm
	}
	dashboard {
		path    /
		actions
	}
}
`);

const text = (tab, selector) => tab.$eval(selector, (e) => e.innerText);
const state = (tab) => text(tab, '[aria-label="Circuit breakers"] tbody tr:last-child td:nth-child(3)').catch(() => "");
const click = (tab, selector) => tab.$eval(selector, (e) => e.click());
const press = (tab, label) => click(tab, `button[aria-label="${label}"]`);
// The states of the circuits of orders, by key.
const orders = (tab) => tab.$$eval('[aria-label="Circuit breakers"] tbody tr', (rows) => Object.fromEntries(
  rows.map((r) => [...r.cells].map((c) => c.innerText)).filter(([name]) => name === "orders").map(([, key, state]) => [key, state])));

const running = spawn(BINARY, ["run", "--config", join(WORK, "Caddyfile"), "--adapter", "caddyfile"], { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, XDG_CONFIG_HOME: WORK, XDG_DATA_HOME: WORK } });
let log = "";
running.stderr.on("data", (text) => { log += text; });
let browser, loading;
try {
  await until("the gateway", () => fetch(`${gateway}/api/orders/items`).then((r) => r.ok, () => false));
  await until("the document of users", () => fetch(`${admin}/tentagate/docs`).then((r) => r.json()).then((list) => list[0]?.result === "ok", () => false));
  loading = load();
  browser = await puppeteer.launch({ executablePath: CHROMIUM, headless: true, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"] });
  await atAdmin();
  await asHandler();
  console.log("ok");
} catch (error) {
  console.error(error, log.slice(-2000));
  process.exitCode = 1;
} finally {
  clearInterval(loading);
  await browser?.close();
  running.kill();
  backend.server.closeAllConnections();
  backend.server.close();
}

async function until(what, check, times = 60) {
  for (let i = 0; i < times; i++) {
    if (await check()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`timed out: ${what}`);
}

function load() {
  let n = 0;
  return setInterval(() => {
    n++;
    for (const path of ["/api/users/people/7", n % 3 ? "" : "/api/users/people", "/api/orders/items", n % 9 ? "" : "/api/orders/missing", n % 30 ? "" : "/api/orders/%2e%2e/x"]) {
      if (path) fetch(gateway + path, path.endsWith("/missing") ? { headers: { "X-Key": "a" } } : {}).then((r) => r.text(), () => "");
    }
  }, 30);
}

// open returns a tab with the page, and what it asked for and what was refused.
async function open(url, width, credentials) {
  const tab = await browser.newPage();
  const asked = [], refused = [];
  if (credentials) await tab.authenticate(credentials);
  await tab.setViewport({ width, height: 1500 });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  tab.on("request", (r) => asked.push(r.url()));
  tab.on("console", (m) => { if (["error", "warn"].includes(m.type()) && !/401/.test(m.text())) refused.push(m.text()); });
  tab.on("pageerror", (e) => refused.push(String(e)));
  tab.on("dialog", (d) => d.accept());
  await tab.goto(url);
  return { tab, asked, refused };
}

async function atAdmin() {
  const { tab, asked, refused } = await open(`${admin}/tentagate/`, 1400);
  await until("services", async () => (await text(tab, "#tables")).includes(`users@${site}`));
  await until("rates", async () => /[1-9]/.test(await text(tab, "#tiles")));
  await until("a route", async () => (await text(tab, "#tables")).includes("/people/{id}"));
  await until("an operation that nobody called", async () => (await text(tab, "#tables")).includes(`GET /${markup}`));
  const last = (name) => tab.$$eval('[aria-label="Services"] tbody tr', (rows, name) => rows.find((r) => r.cells[0].innerText === name)?.cells[11].innerText, name);
  assert.match(await last(`users@${site}`), /^\d+ s ago$/);
  assert.equal(await last(`idle@${site}`), "never used");
  assert.match(await text(tab, '[aria-label="Routes"]'), /\d+ s ago/);
  assert.equal(await tab.evaluate(() => window.hurt), undefined);
  assert.equal(await tab.$("#tables b, #charts b"), null, "a name was inserted as HTML");

  await until("a closed circuit", async () => (await state(tab)).includes("closed"));
  if (DASHBOARD_SCREENSHOT) await new Promise((done) => setTimeout(done, 30000));
  const began = Date.now();
  broken = true;
  await until("the circuit is shown open", async () => /open for|open$/.test(await state(tab)), 50);
  const took = Date.now() - began;
  console.log(`shown open after ${took} ms`);
  assert.ok(took < 5000, `the open circuit was shown after ${took} ms`);
  const failures = '[aria-label="Last responses with 5xx"]';
  await until("failures", async () => (await text(tab, failures)).includes("500"));
  // The id of one of them leads to what was decided about it.
  await until("the id of a failure", async () => /[0-9a-f]{8}-[0-9a-f-]{27}/.test(await text(tab, failures)), 50);
  const [id] = /[0-9a-f]{8}-[0-9a-f-]{27}/.exec(await text(tab, failures));
  const past = await fetch(`${admin}/tentagate/requests/${id}`).then((r) => r.json());
  assert.ok([500, 503].includes(past.requests[0].status), JSON.stringify(past)); // of the service, or of the open circuit
  assert.match(past.requests[0].service, /^users@/);
  if (DASHBOARD_SCREENSHOT) {
    await new Promise((done) => setTimeout(done, 15000));
    await tab.screenshot({ path: DASHBOARD_SCREENSHOT, clip: { x: 0, y: 0, width: 1400, height: 1400 } });
  }
  broken = false;
  await press(tab, "Close users");
  await until("the circuit is closed by the click", async () => (await state(tab)).includes("closed"), 30);
  assert.match(await text(tab, "#state"), /users: closed for 10 minutes/);

  // With the keyboard: a value of a chart, and its table.
  await tab.focus("#pause");
  await tab.keyboard.press("Tab");
  await tab.keyboard.press("ArrowLeft");
  assert.match(await text(tab, "#charts .readout"), /^\d\d:\d\d:\d\d: /);
  await tab.focus("#charts summary");
  await tab.keyboard.press("Enter");
  await until("the chart has a table", async () => (await tab.$$("#charts details[open] tbody tr")).length > 0, 30);

  for (const [width, scheme] of [[1400, "light"], [1400, "dark"], [360, "light"], [3840, "dark"]]) {
    await tab.setViewport({ width, height: 1500 });
    await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await new Promise((done) => setTimeout(done, 300));
    const widest = await tab.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(widest <= width, `the page is ${widest} px wide at ${width} px`);
    await accessible(tab, `${width} px, ${scheme}`);
  }
  const loaded = await fetch(`${admin}/load`, { method: "POST", headers: { "Content-Type": "text/caddyfile", "Cache-Control": "must-revalidate" }, body: readFileSync(join(WORK, "Caddyfile")) });
  assert.equal(loaded.status, 200);
  await until("the page notices the reload", async () => (await text(tab, "#state")).startsWith("The stream has ended"), 50);
  await until("the page connects again", async () => (await text(tab, "#state")) === "Live");
  // A gateway that hangs: its connections stay, and nothing comes.
  running.kill("SIGSTOP");
  try {
    await until("the page notices that nothing comes", async () => /no data for 5 s/.test(await text(tab, "#state")), 100);
    await click(tab, "#pause");
    await click(tab, "#pause");
    assert.match(await text(tab, "#state"), /^Not connected/);
  } finally {
    running.kill("SIGCONT");
  }
  await until("the page connects again", async () => (await text(tab, "#state")) === "Live", 100);
  assert.deepEqual(asked.filter((u) => !u.startsWith(admin + "/") && !u.startsWith("data:")), [], "requests to other origins");
  assert.deepEqual(refused, [], "errors of the page");
  await tab.close();
}

async function accessible(tab, what) {
  await tab.evaluate(axe);
  const found = await tab.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const v of found.violations) for (const n of v.nodes) console.log(`axe: ${what}: ${v.impact}: ${v.id}: ${n.target.join(" ")}: ${n.failureSummary.split("\n").slice(1, 3).join(" ").slice(0, 230)}`);
  assert.deepEqual(found.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => v.id), [], `serious violations, ${what}`);
}

async function asHandler() {
  assert.equal((await fetch(`${inside}/`)).status, 401);
  const { tab, asked, refused } = await open(`${inside}/`, 1000, { username: "ann", password: "s3cret" });
  await until("services", async () => (await text(tab, "#tables")).includes(`users@${site}`));
  await until("the circuits of two keys", async () => Object.keys(await orders(tab)).length === 2);
  // The circuit of the empty key is forced, and no other one.
  await press(tab, "Open orders with an empty key");
  await until("the circuit of the empty key is open", async () => /open, forced/.test((await orders(tab))["service"]), 30);
  assert.match((await orders(tab))["service a"], /closed/);
  await press(tab, "Automatic orders with an empty key");
  await tab.focus('button[aria-label="Open users"]'); // with the keyboard
  await tab.keyboard.press("Enter");
  await until("the circuit is open", async () => (await state(tab)).includes("open, forced"), 30);
  await press(tab, "Automatic users");
  await until("the circuit follows its rules, by which it is open", async () => (await state(tab)).includes("open for"), 30);
  // A page of another origin, with the credentials that the browser has.
  const foreign = await browser.newPage();
  await foreign.goto(`${gateway}/api/orders/items`);
  await foreign.evaluate((url) => fetch(url, { method: "POST", mode: "no-cors", credentials: "include", body: '{"state":"closed"}' }).catch(() => {}), `${inside}/breakers/users`);
  await new Promise((done) => setTimeout(done, 1500));
  assert.match(await state(tab), /open for/);
  assert.deepEqual(asked.filter((u) => !u.startsWith(inside + "/") && !u.startsWith("data:")), [], "requests to other origins");
  assert.deepEqual(refused, [], "errors of the page");
}
