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
const markup = "<b onclick=x>bold</b><script>window.hurt=1</script>";
const backend = await serve((q, a) => {
  if (q.url === "/openapi.json") {
    a.setHeader("Content-Type", "application/json");
    a.end(JSON.stringify({
      openapi: "3.0.3", info: { title: markup, version: "1" },
      paths: Object.fromEntries(["/people", "/people/{id}", "/unused", `/${markup}`].map((path) => [path, { get: { responses: { 200: { description: "ok" } } } }])),
    }));
    return;
  }
  const fails = broken && q.headers.host.startsWith("127") && q.headers["x-service"] === "users";
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
		services /api/ users orders
		site <b>shop</b>
	}
	guard
	ratelimit 100000/s
	api_docs {
		service users ${backend.origin}
	}
	http_cache
	handle_path /api/users/* {
		circuit_breaker users {
			trip consecutive 3
			open_for 10m
		}
		reverse_proxy ${backend.origin} {
			header_up X-Service users
		}
	}
	handle_path /api/orders/* {
		circuit_breaker orders
		reverse_proxy ${backend.origin}
	}
}
${inside} {
	basic_auth {
		ann $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
	dashboard {
		path    /
		actions
	}
}
`);
