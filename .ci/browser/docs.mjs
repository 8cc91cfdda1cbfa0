// Opens the docs page of a gateway with three services in Chromium, sends a request from
// it with a token, and asks the gateway from pages of other origins.
import assert from "node:assert/strict";
import { spawn, execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const { MODULES, BINARY, WORK, CHROMIUM, SCREENSHOT } = process.env;
const require = createRequire(join(MODULES, "x.js"));
const puppeteer = (await import(require.resolve("puppeteer-core"))).default;
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const secret = "z8Kq2mW7xT4vB9nL1cR6yH3jD5fG0sPa";

const documents = {
  "/users/openapi.json": JSON.stringify({
    openapi: "3.0.3", info: { title: "Users", version: "1.4" }, tags: [{ name: "people", description: "Who uses the shop" }],
    paths: { "/people/{id}": { get: { tags: ["people"], operationId: "getPerson", summary: "One person",
      parameters: [{ name: "id", in: "path", required: true, schema: { type: "integer" }, example: 7 }],
      responses: { 200: { description: "The person", content: { "application/json": { schema: { $ref: "#/components/schemas/Person" } } } } } } } },
    components: { schemas: { Person: { type: "object", properties: { name: { type: "string" }, friend: { $ref: "#/components/schemas/Person" } } } } },
  }),
  "/orders/openapi.json": "openapi: 3.1.0\ninfo: {title: Orders, version: '2'}\npaths:\n  /orders:\n    post:\n      summary: A new order\n      deprecated: true\n" +
    "      requestBody: {required: true, content: {application/json: {schema: {type: object, required: [item], properties: {item: {type: string}}}}}}\n      responses: {'201': {description: created}}\n",
  "/stock/openapi.json": JSON.stringify({
    swagger: "2.0", info: { title: "Stock", version: "0.9" }, basePath: "/",
    paths: { "/items": { get: { summary: "What is there", produces: ["application/json"], responses: { 200: { description: "All items", schema: { type: "array", items: { $ref: "#/definitions/Item" } } } } } } },
    definitions: { Item: { type: "object", properties: { count: { type: "integer" } } } },
  }),
};

function serve(handler) {
  return new Promise((resolve) => {
    const server = createServer(handler);
    server.listen(0, "127.0.0.1", () => resolve({ server, origin: `http://127.0.0.1:${server.address().port}` }));
  });
}

const backend = await serve((q, a) => {
  a.setHeader("Content-Type", "application/json");
  a.end(documents[q.url] ?? JSON.stringify({ path: q.url }));
});
const page = (q, a) => { a.setHeader("Content-Type", "text/html"); a.end("<!DOCTYPE html><title>app</title>"); };
const allowed = await serve(page), other = await serve(page);
const free = await serve(page);
const gateway = free.origin;
await new Promise((done) => free.server.close(done));

writeFileSync(join(WORK, "Caddyfile"), `{
	admin off
	auto_https off
}
${gateway} {
	guard
	cors ${allowed.origin} {
		allow_credentials
	}
	@api path /api/*
	jwt_auth @api ${secret}
	api_docs {
		title "The shop's APIs"
		bearer
		service users ${backend.origin}/users
		service orders ${backend.origin}/orders
		service stock ${backend.origin}/stock
		validate enforce
	}
	reverse_proxy ${backend.origin}
}
`);
const token = execFileSync(BINARY, ["token"], { env: { ...process.env, JWT_SECRET_KEY: secret }, encoding: "utf8" }).trim().split("\n").pop();
const running = spawn(BINARY, ["run", "--config", join(WORK, "Caddyfile"), "--adapter", "caddyfile"], { stdio: ["ignore", "ignore", "pipe"] });
let log = "";
running.stderr.on("data", (text) => { log += text; });
let browser;
try {
  await until("the documents are merged", async () => {
    const text = await fetch(`${gateway}/openapi.json`).then((r) => r.text(), () => "");
    return text.includes("/api/users/people/{id}") && text.includes("/api/orders/orders") && text.includes("/api/stock/items");
  });
  browser = await puppeteer.launch({ executablePath: CHROMIUM, headless: true, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"] });
  await docs();
  await cors();
  console.log("ok");
} catch (error) {
  console.error(error, log.slice(-2000));
  process.exitCode = 1;
} finally {
  await browser?.close();
  running.kill();
  for (const s of [backend, allowed, other]) { s.server.closeAllConnections(); s.server.close(); }
}

async function until(what, check) {
  for (let i = 0; i < 300; i++) {
    if (await check()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`timed out: ${what}`);
}

async function docs() {
  const tab = await browser.newPage();
  await tab.setViewport({ width: 1200, height: 1400 });
  const asked = [], refused = [];
  tab.on("request", (r) => asked.push(r.url()));
  tab.on("console", (m) => { if (/Content Security Policy|Refused to/.test(m.text())) refused.push(m.text()); });
  tab.on("pageerror", (e) => refused.push(String(e)));
  await tab.goto(`${gateway}/docs`);
  await tab.waitForSelector(".opblock");
  const text = await tab.$eval("#swagger-ui", (e) => e.innerText);
  for (const want of ["The shop's APIs", "users: people", "/api/users/people/{id}", "/api/orders/orders", "/api/stock/items"]) {
    assert.ok(text.replaceAll("\u200b", "").includes(want), `${want} is not on the page: ${text}`);
  }
  // The token, as a reader pastes it.
  await tab.click(".auth-wrapper .authorize");
  await tab.waitForSelector(".auth-container input");
  await tab.type(".auth-container input", token);
  await tab.click(".auth-btn-wrapper .authorize");
  await tab.click(".auth-btn-wrapper .btn-done");
  await tab.click(".opblock-get .opblock-summary-control"); // the first one: that of users
  await tab.waitForSelector(".execute");
  await tab.waitForSelector('tr[data-param-name="id"] input');
  if ((await tab.$eval('tr[data-param-name="id"] input', (e) => e.value)) === "") {
    await tab.type('tr[data-param-name="id"] input', "7");
  }
  await tab.click(".execute");
  await tab.waitForSelector(".live-responses-table .response-col_status");
  const status = await tab.$eval(".live-responses-table tbody .response-col_status", (e) => e.innerText);
  assert.match(status, /^200/);
  console.log("Try it out:", status.split("\n")[0]);
  await tab.evaluate(axe);
  const found = await tab.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const v of found.violations) for (const n of v.nodes) console.log(`axe: ${v.impact}: ${v.id}: ${n.target.join(" ")}: ${n.failureSummary.split("\n").slice(1, 3).join(" ").slice(0, 230)}`);
  const serious = found.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => v.id);
  if (SCREENSHOT) await tab.screenshot({ path: SCREENSHOT });
  assert.deepEqual(asked.filter((u) => !u.startsWith(gateway + "/") && !u.startsWith("data:") && !u.startsWith("blob:")), [], "requests to other origins");
  assert.deepEqual(refused, [], "the policy refused something");
  assert.deepEqual(serious, [], "serious violations");
  await tab.close();
}

async function cors() {
  for (const { origin, may } of [{ origin: allowed.origin, may: true }, { origin: other.origin, may: false }]) {
    const tab = await browser.newPage();
    await tab.goto(origin);
    const got = await tab.evaluate(async (url, bearer) => {
      const ask = (init) => fetch(url, { credentials: "include", ...init }).then(async (r) => `${r.status} ${r.headers.get("x-request-id") ? "id" : ""}`, (e) => e.name);
      return [
        await ask({ headers: { Authorization: `Bearer ${bearer}` } }), // with a preflight
        await ask({ method: "PUT", headers: { Authorization: `Bearer ${bearer}` } }), // refused by the contract
        await ask({}), // refused without a token
      ];
    }, `${gateway}/api/users/people/7`, token);
    console.log("from", may ? "the allowed origin:" : "another origin:", got.join(", "));
    assert.deepEqual(got, may ? ["200 id", "405 id", "401 id"] : ["TypeError", "TypeError", "TypeError"]);
    await tab.close();
  }
}
