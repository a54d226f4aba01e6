package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// cable is a connection that can be pulled: from then on what is written goes
// nowhere, and nothing comes, as with a host that lost its power.
type cable struct {
	net.Conn
	pulled chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (c *cable) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *cable) Write(b []byte) (int, error) {
	select {
	case <-c.pulled:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

func (c *cable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.pulled:
		<-c.closed
		return 0, io.EOF
	default:
		return n, err
	}
}

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// quiet is a server that says nothing after the first directive.
type quiet struct{ Server }

func (quiet) Directives(ctx context.Context, _ Caller, take func(Directive)) error {
	take(Directive{ID: "1", Kind: DirectiveSnapshot})
	<-ctx.Done()
	return ctx.Err()
}

type everybody struct{}

func (everybody) Admit(r *http.Request) (string, context.Context, func(), error) {
	return "AGENTAAAAAAAA", r.Context(), func() {}, nil
}

// TestServerThatVanishesIsNoticed pulls the cable under a quiet stream: the
// agent knows after 15 s.
func TestServerThatVanishesIsNoticed(t *testing.T) {
	ts := httptest.NewTLSServer(nil) // for its certificate
	cert, root := ts.TLS.Certificates[0], ts.Certificate()
	ts.Close()
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		mux.Handle(Handler(quiet{}, nil, everybody{}, slog.New(slog.DiscardHandler)))
		listener := make(pipes)
		srv := &http.Server{Handler: mux, TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, Time: func() time.Time { return root.NotBefore.Add(time.Hour) },
		}}
		served := make(chan error)
		go func() { served <- srv.ServeTLS(listener, "", "") }()

		roots := x509.NewCertPool()
		roots.AddCert(root)
		h := httpClient(&tls.Config{RootCAs: roots, ServerName: "example.com", Time: func() time.Time { return root.NotBefore.Add(time.Hour) }})
		var line *cable
		h.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			line = &cable{Conn: near, pulled: make(chan struct{}), closed: make(chan struct{})}
			listener <- far
			return line, nil
		}
		c := &Client{server: "example.com"}
		c.now.Store(c.carried(h, h))
		began := make(chan struct{})
		ended := make(chan error)
		go func() { ended <- c.Directives(t.Context(), Caller{}, func(Directive) { close(began) }) }()
		<-began
		time.Sleep(time.Hour) // the connection is kept alive while nothing happens
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("a quiet stream ended: %v", err)
		default:
		}
		pulled := time.Now()
		close(line.pulled)
		if err := <-ended; !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v, want unavailable", err)
		}
		if took := time.Since(pulled); took > pingAfter+pingWait+time.Second {
			t.Errorf("it took %s", took)
		}
		c.Close()
		close(listener)
		<-served
		srv.Close()
	})
}
