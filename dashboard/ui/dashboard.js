"use strict";
// The page of the dashboard. All texts are inserted as text, never as HTML.
(() => {
	const page = document.documentElement.dataset;
	const byId = (id) => document.getElementById(id);
	const kept = 300; // seconds that the charts show at most
	const recorded = []; // points of the charts, one a second
	let points = recorded; // those that are drawn; a copy while the page is paused
	const span = () => Math.min(kept, Math.max(60, points.length ? (points.at(-1).time - points[0].time) / 1000 : 0));
	let selected = "", paused = false, latest = null, received = null; // latest is shown

	// --- elements

	function element(name, attributes, ...children) {
		const e = document.createElement(name);
		for (const [key, value] of Object.entries(attributes || {})) e.setAttribute(key, value);
		e.append(...children);
		return e;
	}
	function drawn(name, attributes) {
		const e = document.createElementNS("http://www.w3.org/2000/svg", name);
		for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
		return e;
	}
	function setText(e, text) {
		if (e.textContent !== text) e.textContent = text;
	}

	// --- numbers and times

	const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
	const rate = (n) => (n === null || n === undefined ? "–" : n === 0 ? "0" : n < 10 ? n.toFixed(1) : whole.format(n));
	const percent = (n) => (n === null || n === undefined ? "–" : (100 * n).toFixed(n === 0 || n === 1 ? 0 : 1) + " %");
	const duration = (s) => (s === null || s === undefined ? "–" : s === 0 ? "0" : s < 1 ? (1000 * s).toFixed(s < 0.01 ? 1 : 0) + " ms" : s.toFixed(2) + " s");
	function length(s) {
		s = Math.max(0, Math.round(s));
		if (s < 60) return s + " s";
		if (s < 3600) return Math.floor(s / 60) + " min";
		return s < 172800 ? Math.floor(s / 3600) + " h" : Math.floor(s / 86400) + " d";
	}
	const ago = (text, now) => (text ? length((now - Date.parse(text)) / 1000) + " ago" : "never used");
	const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

	// --- tables

	// A table keeps its rows by key, so that the focus stays where it is.
	class Table {
		constructor(title, columns, empty, wide) {
			this.columns = columns;
			this.body = element("tbody");
			const head = columns.map((c) => element("th", { scope: "col", ...(c.number ? { class: "number" } : {}) }, c.name));
			this.scroll = element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title },
				element("table", {}, element("caption", { class: "hidden" }, title), element("thead", {}, element("tr", {}, ...head)), this.body));
			this.empty = element("p", { class: "empty" }, empty);
			this.more = element("p", { class: "empty", hidden: "" });
			this.section = element("section", { class: wide ? "table wide" : "table", "aria-label": title }, element("h2", {}, title), this.empty, this.scroll, this.more);
			byId("tables").append(this.section);
		}
		// Rows are [key, cells]; a cell is a text, or {text, class, title} or {node, state}.
		// more are those that are not shown, and what they are.
		fill(rows, more, what) {
			this.more.hidden = !more;
			setText(this.more, more ? whole.format(more) + " " + what + " not shown." : "");
			this.empty.hidden = rows.length > 0;
			this.scroll.hidden = rows.length === 0;
			fillBody(this.body, this.columns, rows);
		}
	}
	function fillBody(body, columns, rows) {
		const known = new Map(Array.from(body.rows, (r) => [r.dataset.key, r]));
		const seen = new Set();
		let at = body.firstElementChild;
		for (let [key, cells] of rows) {
			while (seen.has(key)) key += "\n";
			seen.add(key);
			let row = known.get(key);
			if (!row) {
				row = element("tr", {});
				row.dataset.key = key;
				columns.forEach((c, i) => row.append(element(i === 0 ? "th" : "td", { ...(i === 0 ? { scope: "row" } : {}), ...(c.number ? { class: "number" } : {}) })));
			}
			known.delete(key);
			cells.forEach((cell, i) => fillCell(row.cells[i], columns[i], cell));
			if (row === at) at = at.nextElementSibling;
			else body.insertBefore(row, at);
		}
		for (const row of known.values()) row.remove();
	}
	function fillCell(e, column, cell) {
		if (cell && cell.node) {
			if (e.dataset.state !== cell.state) e.replaceChildren(...cell.node());
			e.dataset.state = cell.state;
			return;
		}
		const given = typeof cell === "object" ? cell : { text: cell };
		setText(e, given.text);
		const wanted = [column.number ? "number" : "", given.class || ""].join(" ").trim();
		if (e.className !== wanted) e.className = wanted;
		if ((given.title || "") !== e.title) e.title = given.title || "";
	}

	// --- charts

	class Chart {
		// series returns the names of the lines for the points, and of(point, name) a value.
		constructor(title, format, series, of, top) {
			Object.assign(this, { title, format, series, of, top, cursor: null });
			this.heading = element("h3", {}, title);
			this.svg = drawn("svg", { role: "img", tabindex: "0" });
			this.legend = element("ul", { class: "legend" });
			this.readout = element("p", { class: "readout", "aria-live": "polite" });
			this.table = element("table", {});
			this.details = element("details", {}, element("summary", {}, "Table: " + title.toLowerCase()),
				element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title + ", table" }, this.table));
			this.figure = element("figure", { "aria-label": title }, this.heading, this.svg, this.legend, this.readout, this.details);
			this.details.addEventListener("toggle", () => this.draw());
			this.svg.addEventListener("pointermove", (e) => this.point(e.offsetX));
			this.svg.addEventListener("pointerleave", () => this.leave());
			this.svg.addEventListener("blur", () => this.leave());
			this.svg.addEventListener("keydown", (e) => this.key(e));
			byId("charts").append(this.figure);
			new ResizeObserver(() => this.draw()).observe(this.svg);
		}
		key(e) {
			const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -1e6, End: 1e6 }[e.key];
			if (e.key === "Escape") this.leave();
			if (!step || points.length === 0) return;
			e.preventDefault();
			const from = this.cursor === null ? points.length - 1 : points.findIndex((p) => p.time >= this.cursor);
			this.cursor = points[Math.min(points.length - 1, Math.max(0, from + step))].time;
			this.draw();
		}
		point(x) {
			const time = this.timeAt(x);
			const near = points.reduce((best, p) => (best === null || Math.abs(p.time - time) < Math.abs(best.time - time) ? p : best), null);
			this.cursor = near && near.time;
			this.draw();
		}
		leave() {
			this.cursor = null;
			this.draw();
		}
		timeAt(x) {
			return points.length ? points.at(-1).time - (1 - (x - this.left) / (this.width - this.left)) * span() * 1000 : 0;
		}
		draw() {
			const names = this.series();
			const values = names.map((name) => points.map((p) => this.of(p, name)));
			this.paint(names, values);
			const last = points.length - 1;
			const said = names.map((name, i) => name + " " + this.format(last < 0 ? null : values[i][last]));
			this.svg.setAttribute("aria-label", this.title + ", line chart. Now: " + (said.join(", ") || "nothing yet"));
			this.fillLegend(names, said);
			const at = this.cursor === null ? -1 : points.findIndex((p) => p.time >= this.cursor);
			setText(this.readout, at < 0 ? "" : clock(points[at].time) + ": " + names.map((name, i) => name + " " + this.format(values[i][at])).join(", "));
			if (this.details.open) this.fillTable(names, values);
		}
		paint(names, values) {
			const box = this.svg.getBoundingClientRect();
			const size = parseFloat(getComputedStyle(document.documentElement).fontSize);
			const width = (this.width = Math.max(box.width, 50)), height = Math.max(box.height, 50), left = (this.left = 3.6 * size), bottom = height - 1.4 * size, head = 0.7 * size;
			this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
			const most = this.top || nice(Math.max(0, ...values.flat().filter((v) => v !== null && v !== undefined)));
			const end = points.length ? points.at(-1).time : 0, shown = span();
			const x = (time) => (left + (width - left) * (1 - (end - time) / (shown * 1000))).toFixed(1);
			const y = (v) => (bottom - (bottom - head) * Math.min(1, v / most)).toFixed(1);
			const parts = [];
			for (const share of [0, 0.5, 1]) {
				parts.push(drawn("line", { class: "grid", x1: left, x2: width, y1: y(share * most), y2: y(share * most) }));
				const text = drawn("text", { x: left - 0.4 * size, y: Number(y(share * most)) + 0.25 * size, "text-anchor": "end" });
				text.textContent = this.format(share * most);
				parts.push(text);
			}
			for (const [text, at, anchor] of [["−" + length(shown), left, "start"], ["now", width, "end"]]) {
				const e = drawn("text", { x: at, y: height - 0.2 * size, "text-anchor": anchor });
				e.textContent = text;
				parts.push(e);
			}
			values.forEach((line, i) => {
				let path = "", open = false, before = 0;
				line.forEach((v, at) => {
					const time = points[at].time;
					if (v === null || v === undefined) { open = false; return; }
					path += (open && time - before < 3500 ? "L" : "M") + x(time) + " " + y(v);
					if (!open && (at + 1 === line.length || line[at + 1] === null || line[at + 1] === undefined)) path += "h1";
					open = true;
					before = time;
				});
				parts.push(drawn("path", { class: "series c" + this.color(names[i], i), d: path }));
			});
			if (this.cursor !== null) parts.push(drawn("line", { class: "cursor", x1: x(this.cursor), x2: x(this.cursor), y1: head, y2: bottom }));
			this.svg.replaceChildren(...parts);
		}
		color(name, i) {
			const colors = { "2xx": 2, "3xx": 0, "4xx": 1, "5xx": 4, "1xx": 5, other: 6, others: 6 };
			return colors[name] === undefined ? Math.min(i, 6) : colors[name];
		}
		fillLegend(names, said) {
			while (this.legend.children.length > names.length) this.legend.lastChild.remove();
			names.forEach((name, i) => {
				let item = this.legend.children[i];
				if (!item) {
					const line = drawn("svg", { viewBox: "0 0 30 10", "aria-hidden": "true" });
					line.append(drawn("path", { d: "M0 5H30" }));
					item = element("li", {}, line, element("span"));
					this.legend.append(item);
				}
				item.firstChild.firstChild.setAttribute("class", "series c" + this.color(name, i));
				setText(item.lastChild, said[i]);
			});
		}
		fillTable(names, values) {
			const columns = [{ name: "time" }, ...names.map((name) => ({ name, number: true }))];
			const head = columns.map((c) => c.name).join("\n");
			if (this.head !== head) {
				this.head = head;
				this.body = element("tbody");
				this.table.replaceChildren(element("caption", { class: "hidden" }, this.title + ", every 10 seconds"),
					element("thead", {}, element("tr", {}, ...columns.map((c) => element("th", { scope: "col", ...(c.number ? { class: "number" } : {}) }, c.name)))), this.body);
			}
			const rows = [];
			for (let at = points.length - 1; at >= 0; at--) {
				if (at === points.length - 1 || Math.floor(points[at].time / 10000) !== Math.floor(points[at + 1].time / 10000)) {
					rows.push([String(points[at].time), [clock(points[at].time), ...values.map((line) => this.format(line[at]))]]);
				}
			}
			fillBody(this.body, columns, rows);
		}
	}
	function nice(n) {
		if (!(n > 0)) return 1;
		const power = 10 ** Math.floor(Math.log10(n));
		return [1, 2, 5, 10].find((f) => f * power >= n) * power;
	}
	// The names with the largest values in the latest points, and "others" for the rest.
	function largest(maps, most) {
		const sums = new Map();
		for (const map of maps) for (const [name, v] of map) sums.set(name, (sums.get(name) || 0) + v);
		const names = [...sums.keys()].sort((a, b) => sums.get(b) - sums.get(a) || (a < b ? -1 : 1));
		return names.length <= most ? names.sort() : [...names.slice(0, most - 1).sort(), "others"];
	}
	function valueOf(map, name, names) {
		if (map === null) return null;
		if (name !== "others" || map.has(name)) return map.get(name) || 0;
		let sum = 0;
		for (const [other, v] of map) if (!names.includes(other)) sum += v;
		return sum;
	}

	const of = (p) => (selected === "" ? p.total : p.services.get(selected) || null);
	const classes = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"]; // as they are counted
	let topServices = [], topRefusals = [];
	const charts = {
		requests: new Chart("Requests per second", rate, () => (selected === "" ? (topServices = largest(points.map((p) => p.rates || []), 6)) : [selected]),
			(p, name) => (selected === "" ? valueOf(p.rates, name, topServices) : of(p) && of(p).rate)),
		latency: new Chart("Latency", duration, () => ["p50", "p95", "p99"], (p, name) => of(p) && of(p)[name]),
		classes: new Chart("Status classes per second", rate, () => classes.filter((c, i) => i > 1 || points.some((p) => of(p) && of(p).classes[i] > 0)),
			(p, name) => of(p) && of(p).classes[classes.indexOf(name)]),
		cache: new Chart("Cache hit ratio", percent, () => ["hit ratio"], (p) => p.hitRatio, 1),
		refusals: new Chart("Refusals per second, by reason", rate, () => (topRefusals = largest(points.map((p) => p.refusals || []), 7)), (p, name) => valueOf(p.refusals, name, topRefusals)),
	};

	// --- what the page shows

	const number = (name) => ({ name, number: true });
	const acts = page.actions === "true";
	const tables = {
		services: new Table("Services", [{ name: "service" }, ...["requests/s", "2xx/s", "3xx/s", "4xx/s", "5xx/s", "p50", "p95", "p99", "in flight", "requests"].map(number), { name: "last request" }], "No service is measured.", true),
		breakers: new Table("Circuit breakers", [{ name: "name" }, { name: "of" }, { name: "state" }, ...["requests", "failures"].map(number), { name: "last opened by" }, ...(acts ? [{ name: "actions" }] : [])], "There are no circuit breakers.", true),
		upstreams: new Table("Upstreams", [{ name: "address" }, { name: "service" }, { name: "health" }, ...["requests", "fails"].map(number)], "There are no upstreams."),
		redis: new Table("Redis", [{ name: "address" }, { name: "topology" }, { name: "state" }, { name: "since" }, number("gateways")], "There is no Redis: everything is kept in the memory of this gateway."),
		refusals: new Table("Refusals", [{ name: "by" }, { name: "reason" }, number("per second"), number("total")], "No request was refused."),
		problems: new Table("Errors that features report", [{ name: "feature" }, { name: "what" }, { name: "error" }], "No feature reports an error."),
		failures: new Table("Last responses with 5xx", [{ name: "time" }, { name: "service" }, { name: "route" }, number("status"), number("responses"), { name: "last request id" }], "There was none while this dashboard was watched."),
		routes: new Table("Routes", [{ name: "route" }, { name: "service" }, number("requests/s"), number("requests"), number("5xx"), { name: "last request" }], "No route had a request yet.", true),
		unused: new Table("Operations that nobody called", [{ name: "operation" }, { name: "service" }], "There are none in the OpenAPI documents of the services."),
	};
	const tiles = new Map();
	function tile(name, text, kind) {
		if (!tiles.has(name)) {
			const value = element("dd");
			byId("tiles").append(element("div", {}, element("dt", {}, name), value));
			tiles.set(name, value);
		}
		setText(tiles.get(name), text);
		tiles.get(name).className = kind || "";
	}

	function remember(s) {
		recorded.push({
			time: s.time,
			total: s.rated ? s.total : null,
			services: new Map(s.rated ? s.services.map(({ name, rate, classes, p50, p95, p99 }) => [name, { rate, classes, p50, p95, p99 }]) : []),
			rates: s.rated ? new Map(s.services.map((one) => [one.name, one.rate])) : null,
			hitRatio: s.cache && s.cache.hit_ratio,
			refusals: s.rated ? new Map(s.refusals.map((r) => [r.by + ": " + r.reason, r.rate])) : null,
		});
		while (recorded.length > 1 && recorded[0].time < s.time - kept * 1000) recorded.shift();
	}

	const stateKinds = { closed: "good", half_open: "warn", open: "bad", available: "good", read_only: "warn", unavailable: "bad" };
	const signs = { closed: "● ", half_open: "◐ ", open: "▲ ", available: "● ", read_only: "◐ ", unavailable: "▲ " };
	const stateCell = (state, more) => ({ text: (signs[state] || "") + state.replace("_", " ") + (more || ""), class: stateKinds[state] || "dim" });

	function show(s) {
		latest = s;
		const status = s.status, chosen = selected === "" ? s.total : s.services.find((one) => one.name === selected) || s.total;
		const known = (n) => (s.rated ? n : null);
		showProcess(status);
		byId("off").hidden = s.telemetry;
		for (const name of ["requests", "latency", "classes"]) charts[name].figure.hidden = !s.telemetry;
		charts.cache.figure.hidden = s.cache === null;
		tables.services.section.hidden = tables.routes.section.hidden = tables.failures.section.hidden = !s.telemetry;
		if (s.telemetry) {
			tile("requests/s", rate(known(chosen.rate)));
			tile("5xx/s", rate(known(chosen.classes[5])), chosen.classes[5] > 0 ? "bad" : "");
			tile("p95", duration(chosen.p95));
			tile("in flight", whole.format(chosen.in_flight));
		}
		if (s.cache) tile("hit ratio", percent(s.cache.hit_ratio));
		tile("circuits not closed", whole.format(s.circuits_not_closed), s.circuits_not_closed > 0 ? "bad" : "");
		showServices(s.services, known);
		tables.services.fill(s.services.map((one) => [one.name, [one.name, rate(known(one.rate)), ...[2, 3, 4, 5].map((i) => ({ text: rate(known(one.classes[i])), class: i === 5 && one.classes[i] > 0 ? "bad" : "" })),
			duration(one.p50), duration(one.p95), duration(one.p99), whole.format(one.in_flight), whole.format(one.requests), lastCell(one.last_request, s.time)]]));
		tables.routes.fill(s.services.filter((one) => selected === "" || one.name === selected).flatMap((one) => one.routes.map((r) => [one.name + "\n" + r.route,
			[r.route, one.name, rate(known(r.rate)), whole.format(r.requests), { text: whole.format(r.failed), class: r.failed > 0 ? "bad" : "" }, lastCell(r.last_request, s.time)]])), s.more_routes, "routes with fewer requests are");
		showBreakers(status.breakers || [], s.more_circuits);
		tables.upstreams.fill((status.services || []).flatMap((one) => one.upstreams.map((u) => [one.site + "\n" + (one.path || "") + "\n" + u.address,
			[u.address, (one.name || "–") + " at " + one.site, healthCell(u.healthy), whole.format(u.requests), whole.format(u.fails)]])), s.more_upstreams, "more upstreams are");
		tables.redis.fill((status.redis || []).flatMap((one) => one.partitions.map((p) => [one.addresses.join(",") + "\n" + (p.node || ""),
			[p.node || one.addresses.join(", "), one.topology, stateCell(p.state, p.reason ? ": " + p.reason : ""), { text: length((s.time - Date.parse(p.since)) / 1000), title: p.since }, whole.format(one.gateways)]])));
		tables.refusals.fill(s.refusals.map((r) => [r.by + "\n" + r.reason, [r.by, r.reason, rate(known(r.rate)), whole.format(r.total)]]));
		tables.problems.fill(s.problems.map((p, i) => [i + "\n" + p.of + "\n" + p.name, [p.of, p.name, p.detail]]));
		tables.failures.fill(s.failures.map((f) => [[f.time, f.service, f.route, f.code].join("\n"), [clock(f.time), f.service, f.route, { text: f.code, class: "bad" }, whole.format(f.count), f.request_id || "–"]]));
		tables.unused.fill(s.unused.flatMap((one) => [...one.never_called.map((o) => [one.service + "\n" + o.method + " " + o.path, [o.method + " " + o.path, one.service]]),
			...(one.more ? [[one.service + "\nmore", [whole.format(one.more) + " more", one.service]]] : [])]));
		for (const chart of Object.values(charts)) chart.draw();
	}
	function lastCell(text, now) {
		return { text: ago(text, now), title: text || "", class: text ? "" : "warn" };
	}
	function healthCell(healthy) {
		if (healthy === undefined) return { text: "not checked", class: "dim" };
		return healthy ? { text: "● healthy", class: "good" } : { text: "▲ unhealthy", class: "bad" };
	}
	function showProcess(status) {
		const process = status.process, config = status.config;
		setText(byId("process"), process ? `${process.version}, Caddy ${process.caddy}, up ${length(process.uptime_seconds)}` + (config ? `, configuration of ${new Date(config.loaded).toLocaleString("en-GB")}` : "") : "");
	}
	function showServices(services) {
		const select = byId("service"), names = services.map((one) => one.name);
		const shown = Array.from(select.options).slice(1).map((o) => o.value);
		if (names.length === shown.length && names.every((name, i) => name === shown[i])) return;
		select.replaceChildren(select.options[0], ...names.map((name) => element("option", { value: name }, name)));
		if (!names.includes(selected)) selected = "";
		select.value = selected;
	}

	// --- circuit breakers

	function showBreakers(list, more) {
		const keyed = new Set(list.filter((b) => b.key).map((b) => b.scope + "\n" + b.name));
		tables.breakers.fill(list.map((b) => {
			// Without a key all circuits of a breaker are forced, so the empty key of one that has others is a key too.
			const one = b.key !== "" || more > 0 || keyed.has(b.scope + "\n" + b.name);
			const forced = b.forced_seconds ? `, forced for ${length(b.forced_seconds)}` : b.open_seconds ? ` for ${length(b.open_seconds)}` : "";
			const cells = [b.name, b.key ? b.scope + " " + b.key : b.scope, stateCell(b.state, forced), whole.format(b.requests), whole.format(b.failures), [b.last_rule, b.last_error].filter(Boolean).join(": ") || "–"];
			if (acts) cells.push({ state: [b.state, !!b.forced_seconds, one].join(), node: () => buttons(b, one) });
			return [[b.name, b.scope, b.key].join("\n"), cells];
		}), more, "more circuits are");
	}
	function buttons(b, one) {
		const what = b.name + (b.key ? " " + b.key : one ? " with an empty key" : "");
		const make = (text, state, useless) => {
			const button = element("button", { type: "button", "aria-label": `${text} ${what}` }, text);
			button.disabled = useless;
			button.addEventListener("click", () => {
				if (state !== "open" || confirm(`Open the circuit breaker ${what}? All its requests are refused for 10 minutes.`)) force(b, one, state, what, button);
			});
			return button;
		};
		const forced = b.forced_seconds > 0;
		return [make("Open", "open", forced && b.state === "open"), make("Close", "closed", b.state === "closed"), make("Automatic", "auto", !forced)];
	}
	async function force(b, one, state, what, button) {
		const query = new URLSearchParams({ scope: b.scope, ...(one ? { key: b.key } : {}) });
		button.disabled = true;
		let error = "";
		try {
			const answer = await fetch(`breakers/${encodeURIComponent(b.name)}?${query}`, {
				method: "POST", headers: { "Content-Type": "application/json", "X-Tentagate-Dashboard": "1" }, body: JSON.stringify({ state }),
			});
			if (!answer.ok) error = await problem(answer);
		} catch (e) {
			error = String(e);
		}
		button.disabled = false;
		const done = `${what}: ${{ open: "opened for 10 minutes", closed: "closed for 10 minutes", auto: "its rules decide again" }[state]}`;
		say(error ? `${what}: ${error}` : live ? "" : done);
		if (!error) connected(done);
	}
	async function problem(answer) {
		const text = await answer.text();
		try {
			const parsed = JSON.parse(text);
			return parsed.detail || parsed.error || parsed.title || `status ${answer.status}`;
		} catch {
			return `status ${answer.status}`;
		}
	}

	// --- the stream of events

	function say(text) {
		setText(byId("message"), text);
		byId("message").hidden = text === "";
	}
	let stateUntil = 0, live = false;
	function connected(text) {
		if (!live) return;
		if (text) stateUntil = Date.now() + 5000;
		else if (Date.now() < stateUntil) return;
		setText(byId("state"), text || (paused ? "Paused" : "Live"));
		byId("state").className = "";
	}
	function lost(text) {
		stateUntil = 0;
		live = false;
		setText(byId("state"), text);
		byId("state").className = "lost";
	}
	function receive(text) {
		received = JSON.parse(text);
		live = true;
		connected("");
		remember(received);
		if (!paused) show(received);
	}
	let stream = null, retry = 0, away = false;
	// watch reads one stream, and another one when it has ended. A stream on which nothing comes ends too: the
	// connection may be gone without a sign of it.
	async function watch() {
		clearTimeout(retry);
		if (stream) stream.abort();
		const own = stream = new AbortController();
		let wait = 1000, silence = 0;
		const expect = (seconds, what) => {
			clearTimeout(silence);
			silence = setTimeout(() => own.abort(new Error(`${what} for ${seconds} s`)), 1000 * seconds);
		};
		try {
			expect(30, "no answer");
			const answer = await fetch(page.events, { headers: { Accept: "text/event-stream" }, signal: own.signal, cache: "no-store" });
			if (!answer.ok) {
				wait = 1000 * (Number(answer.headers.get("Retry-After")) || 10);
				throw new Error(await problem(answer));
			}
			const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
			for (let rest = ""; ;) {
				expect(5, "no data");
				const { done, value } = await reader.read();
				if (done) break;
				const events = (rest + value).split("\n\n");
				rest = events.pop();
				for (const event of events) if (event.startsWith("data: ")) receive(event.slice(6));
			}
			lost("The stream has ended. Connecting again …");
		} catch (e) {
			if (own !== stream || away) return;
			lost(`Not connected: ${(own.signal.reason || e).message}. Trying again …`);
		} finally {
			clearTimeout(silence);
		}
		if (own === stream && !away) retry = setTimeout(watch, wait);
	}

	byId("service").addEventListener("change", (e) => {
		selected = e.target.value;
		if (latest) show(latest);
	});
	byId("pause").addEventListener("click", (e) => {
		paused = !paused;
		e.target.setAttribute("aria-pressed", String(paused));
		points = paused ? recorded.slice() : recorded;
		stateUntil = 0;
		connected("");
		if (!paused && received) show(received);
	});
	// A page that nobody sees does not keep one of the few streams for long.
	let hiding = 0;
	document.addEventListener("visibilitychange", () => {
		clearTimeout(hiding);
		if (document.hidden) {
			hiding = setTimeout(() => {
				away = true;
				clearTimeout(retry);
				stream.abort();
			}, 300000);
		} else if (away) {
			away = false;
			lost("Connecting …");
			watch();
		}
	});
	watch();
})();
