// Package availability decides, once for all features, whether Redis can be
// used, what an error of Redis means, and how long a request may wait for it.
//
// Features report how their calls ended. When calls keep failing, the partition
// they went to is taken out of use: features ask State first and use their
// configured fallback, so that no request waits for a server that is down. One
// goroutine per partition probes the server. When it answers again, subscribers
// get ready (settle debts, catch up with invalidations), and only then is the
// partition used again.
//
// A single server, or a master behind Sentinels, is one partition. In a Cluster
// each master is one, so that a lost node affects its own keys only.
package availability
