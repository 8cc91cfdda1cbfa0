package integration

// limited is a server with one path per thing to limit by. The budget is long,
// so that a busy machine does not look like an outage.
const limited = `{
	admin $ADMIN
	auto_https off
	log {
		level ERROR
	}
	metrics
	servers {
		trusted_proxies static 127.0.0.1/32
	}
	%[2]s
}
http://$ADDR {
	handle /rate {
		ratelimit {
			zone rate
			limit 3/1h
			%[1]s
		}
		respond "{http.ratelimit.rate.outcome} {http.ratelimit.rate.remaining} {http.ratelimit.rate.reset} {http.ratelimit.rate.tier}"
	}
	handle /burst {
		ratelimit 10/1h burst 2 {
			zone burst
			%[1]s
		}
		respond ok
	}
	handle /several {
		ratelimit 100/1d {
			zone several
			limit 2/1h
			headers both
			%[1]s
		}
		respond ok
	}
	handle /window {
		ratelimit {
			zone window
			limit 3/1h
			algorithm sliding_window
			%[1]s
		}
		respond ok
	}
	handle /quota {
		ratelimit {
			zone quota
			quota 2/month
			key {header.X-User}
			%[1]s
		}
		respond ok
	}
	handle /second {
		ratelimit {
			zone second
			limit 1/1s
			%[1]s
		}
		respond ok
	}
	handle /by-user {
		ratelimit 1/1h {
			zone by-user
			key {header.X-User}
			%[1]s
		}
		respond ok
	}
	handle /skip {
		ratelimit 1/1h {
			zone skip
			key {header.X-User} {header.X-App}
			missing_key skip
			%[1]s
		}
		respond ok
	}
	handle /reject {
		ratelimit 1/1h {
			zone reject
			key "{header.X-User}"
			missing_key reject
			%[1]s
		}
		respond ok
	}
	handle /whole {
		ratelimit 1/1h {
			zone whole
			ipv6_prefix 128
			%[1]s
		}
		respond ok
	}
	handle /exempt {
		ratelimit 1/1h {
			zone exempt
			exempt 10.0.0.0/8 2001:db8::/32
			exempt 192.0.2.7
			%[1]s
		}
		respond ok
	}
	handle /tier {
		ratelimit {
			zone tier
			key {header.X-User}
			tier {header.X-Plan} {
				gold 4/1h
				gold 100/1d
				staff unlimited
				* 2/1h
			}
			%[1]s
		}
		respond ok
	}
	handle /cost {
		ratelimit 10/1h {
			zone cost
			cost {header.X-Cost}
			%[1]s
		}
		respond ok
	}
	handle /login {
		ratelimit 2/1h {
			zone login
			count status 401 5xx
			%[1]s
		}
		respond answer {header.X-Answer}
	}
	handle /shadow {
		ratelimit 1/1h {
			zone shadow
			shadow
			%[1]s
		}
		respond {http.ratelimit.shadow.outcome}
	}
	handle /delay {
		ratelimit 10/1s burst 1 {
			zone delay
			delay 30s
			%[1]s
		}
		respond {http.ratelimit.delay.outcome}
	}
	handle /queue {
		ratelimit 1/20s {
			zone queue
			delay 1m 1
			%[1]s
		}
		respond ok
	}
	handle /off {
		ratelimit 1/1h {
			zone without_headers
			headers off
			%[1]s
		}
		respond ok
	}
	handle /legacy {
		ratelimit 5/1h {
			zone legacy
			headers legacy
			%[1]s
		}
		respond ok
	}
	handle /two {
		ratelimit {
			zone everybody
			key everybody
			limit 8/1h
			%[1]s
		}
		ratelimit {
			zone each
			limit 3/1h
			%[1]s
		}
		respond ok
	}
	handle /busy {
		ratelimit {
			zone busy
			max_concurrent 1
			%[1]s
		}
		reverse_proxy $BACKEND
	}
	handle /metrics {
		metrics
	}
	handle {
		ratelimit 1000000/1s {
			zone open
			%[3]s
		}
		respond open
	}
}
`
