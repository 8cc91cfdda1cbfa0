package redistest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy forwards connections to a server. It can delay or drop data, close
// connections, and forward new ones to another server.
type Proxy struct {
	listener net.Listener
	to       atomic.Value
	delay    atomic.Int64
	hole     atomic.Bool
	mu       sync.Mutex
	conns    []net.Conn
	done     sync.WaitGroup
}

// NewProxy returns a proxy for the server at host:port, which ends with the test.
func NewProxy(tb testing.TB, to string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{listener: l}
	p.to.Store(to)
	p.done.Go(p.serve)
	tb.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		p.done.Wait()
	})
	return p
}

// Addr returns host:port of the proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL returns the address of the proxy as TentaGate's configuration takes it.
func (p *Proxy) URL() string { return "redis://" + p.Addr() }

// Delay delays all data from now on, in each direction.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// Swallow drops all data while it is true.
func (p *Proxy) Swallow(yes bool) { p.hole.Store(yes) }

// Direct closes all connections and forwards new ones to another server.
func (p *Proxy) Direct(to string) {
	p.to.Store(to)
	p.Cut()
}

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *Proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to.Load().(string))
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.done.Go(func() { p.pipe(out, in) })
		p.done.Go(func() { p.pipe(in, out) })
	}
}

func (p *Proxy) pipe(to, from net.Conn) {
	defer func() { _ = to.Close() }()
	defer func() { _ = from.Close() }()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		time.Sleep(time.Duration(p.delay.Load()))
		if p.hole.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
