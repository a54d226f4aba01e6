package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Limits of the host.
const (
	maxLoot     = 4 << 10 // bytes of anything that comes in
	maxCatches  = 16      // connections at once, a service
	catchTime   = 10 * time.Second
	tunnelZone  = ".tunnel.example."
	shellPort   = ":4444"
	stratumPort = ":3333"
	dnsPort     = ":53"
	sinkPort    = ":9999"
)

// runHost is the attacker's own machine until ctx ends. It prints one line for
// whatever comes in, by which attack scripts see that they worked.
func runHost(ctx context.Context) error {
	var sunk atomic.Int64
	services := []func(context.Context) error{
		func(context.Context) error { return serveFiles(&sunk) },
		func(ctx context.Context) error { return catch(ctx, shellPort, catchShell) },
		func(ctx context.Context) error { return catch(ctx, stratumPort, catchMiner) },
		serveDNS,
		func(ctx context.Context) error {
			return receive(ctx, sinkPort, func([]byte) []byte { sunk.Add(1); return nil })
		},
	}
	failed := make(chan error, len(services))
	for _, serve := range services {
		go func() { failed <- serve(ctx) }() // the process ends with the first
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// report prints one line of evidence.
func report(what, from, text string) {
	host, _, err := net.SplitHostPort(from)
	if err != nil {
		host = from
	}
	fmt.Printf("%s from %s: %.*q\n", what, host, maxLoot, text)
}

// serveFiles hands out this program as /tool and takes loot at /loot/….
func serveFiles(sunk *atomic.Int64) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tool", func(w http.ResponseWriter, r *http.Request) {
		report("download", r.RemoteAddr, r.URL.Path)
		http.ServeFile(w, r, "/proc/self/exe")
	})
	mux.HandleFunc("GET /loot/{text...}", func(_ http.ResponseWriter, r *http.Request) {
		report("loot", r.RemoteAddr, r.PathValue("text"))
	})
	mux.HandleFunc("GET /sunk", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, sunk.Load()) })
	server := &http.Server{Addr: ":80", Handler: mux, ReadTimeout: catchTime, WriteTimeout: longest}
	return server.ListenAndServe()
}

// catch hands connections to take, a few at once.
func catch(ctx context.Context, addr string, take func(net.Conn) error) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	places := make(chan struct{}, maxCatches)
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		places <- struct{}{}
		go func() { // ends with its deadline; runHost's process ends with it
			defer func() { <-places }()
			defer conn.Close()
			if err := errors.Join(conn.SetDeadline(time.Now().Add(catchTime)), take(conn)); err != nil {
				fmt.Fprintf(os.Stderr, "connection from %s: %v\n", conn.RemoteAddr(), err)
			}
		}()
	}
}

// catchShell gives a reverse shell a command and reports what it answers.
func catchShell(conn net.Conn) error {
	if _, err := io.WriteString(conn, "id; hostname; echo mark $MARK; exit\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, maxLoot))
	report("shell", conn.RemoteAddr().String(), string(answer))
	return err
}

// catchMiner is a mining pool as far as the handshake goes.
func catchMiner(conn net.Conn) error {
	lines := bufio.NewScanner(io.LimitReader(conn, maxLoot))
	for lines.Scan() {
		report("stratum", conn.RemoteAddr().String(), lines.Text())
		answer := `{"id":1,"result":[[["mining.notify","ae6812eb4cd7735a302a8a9dd95cf71f"]],"08000002",4],"error":null}`
		if strings.Contains(lines.Text(), "mining.authorize") {
			answer = `{"id":2,"result":true,"error":null}` + "\n" +
				`{"id":null,"method":"mining.notify","params":["bf","4d16b6f8","01","02",[],"00000002","1c2ac4af","504e86b9",true]}`
		}
		if _, err := io.WriteString(conn, answer+"\n"); err != nil {
			return err
		}
	}
	return lines.Err()
}

// receive hands datagrams to answer and sends back what it returns.
func receive(ctx context.Context, addr string, answer func([]byte) []byte) error {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return err
	}
	buf := make([]byte, maxLoot)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		out := answer(buf[:n])
		if out == nil {
			continue
		}
		if _, err := conn.WriteTo(out, from); err != nil {
			return err
		}
	}
}

// serveDNS is the far end of a DNS tunnel.
func serveDNS(ctx context.Context) error {
	var t tunnel
	return receive(ctx, dnsPort, func(packet []byte) []byte {
		answer, loot := t.take(packet)
		if loot != nil {
			report("dns", "tunnel", string(loot))
		}
		return answer
	})
}

// A tunnel puts together what names below tunnelZone carry: bytes in hex, a
// label each, until the label "00".
type tunnel struct{ loot []byte }

// take returns the answer to a query, nil if it is none, and what came through
// when this was the last piece.
func (t *tunnel) take(packet []byte) (answer, loot []byte) {
	var p dnsmessage.Parser
	header, err := p.Start(packet)
	if err != nil {
		return nil, nil
	}
	question, err := p.Question()
	if err != nil {
		return nil, nil
	}
	label, inside := strings.CutSuffix(question.Name.String(), tunnelZone)
	switch piece, err := hex.DecodeString(label); {
	case !inside || err != nil || len(t.loot)+len(piece) > maxLoot:
		t.loot = nil
	case label == "00":
		loot, t.loot = t.loot, nil
	default:
		t.loot = append(t.loot, piece...)
	}
	return dnsAnswer(header.ID, question), loot
}

func dnsAnswer(id uint16, q dnsmessage.Question) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, Response: true, Authoritative: true})
	err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers(),
		b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}, dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}))
	out, finish := b.Finish()
	if err != nil || finish != nil {
		return nil
	}
	return out
}
