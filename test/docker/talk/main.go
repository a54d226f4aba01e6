// Command talk is both ends of the conversations that tests have in containers:
//
//	talk serve tcp:80 udp:53 …      answers at these ports, for ever
//	talk resolve 10.0.0.1:53        answers questions to the DNS, for ever
//	talk to tcp db:80 [udp]         connects, says something, and waits for the answer
//	talk send udp db:53 [udp]       the same from a socket that is not connected
//	talk again tcp db:80 [udp]      the same as to, ten times a second for ever
//
// The resolver says that every name has the address 192.0.2.7, except for those
// that begin with "nobody", which there are not. A name is looked up as the container is told to; the last word says how the
// resolver is asked: udp, by tcp, or by udp from a socket that is not connected
// (loose), as programs of musl do. An address that must not answer has a "!"
// before it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

const within = 5 * time.Second // of one conversation

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: talk serve PROTOCOL:PORT… | talk resolve ADDRESS | talk to|send|again PROTOCOL [!]ADDRESS [udp|tcp|loose]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "talk:", err)
		os.Exit(1)
	}
}

func run(what string, args []string) error {
	switch {
	case what == "serve":
		return serve(args)
	case what == "resolve":
		return resolve(args[0])
	case len(args) < 2 || what != "to" && what != "send" && what != "again":
		return fmt.Errorf("%s what?", what)
	}
	asking := "udp"
	if len(args) > 2 {
		asking = args[2]
	}
	if what == "again" {
		for range time.Tick(100 * time.Millisecond) {
			if err := talk(true, args[0], args[1], asking); err != nil {
				fmt.Println(err) // whoever answered may be gone for a while
			}
		}
	}
	address, mustFail := strings.CutPrefix(args[1], "!")
	err := talk(what == "to", args[0], address, asking)
	if mustFail && err == nil {
		return fmt.Errorf("%s answered", address)
	}
	if mustFail {
		return nil
	}
	return err
}

// serve answers at all ports; ":53" of "udp:53" is every address.
func serve(places []string) error {
	failed := make(chan error)
	for _, place := range places {
		protocol, address, _ := strings.Cut(place, ":")
		if !strings.Contains(address, ":") {
			address = ":" + address
		}
		if protocol == "udp" {
			c, err := net.ListenPacket(protocol, address)
			if err != nil {
				return err
			}
			go func() { failed <- answerPackets(c) }()
			continue
		}
		l, err := net.Listen(protocol, address)
		if err != nil {
			return err
		}
		go func() { failed <- answerConnections(l) }()
	}
	fmt.Println("serving")
	return <-failed
}

func answerPackets(c net.PacketConn) error {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(b[:n], from); err != nil {
			return err
		}
	}
}

func resolve(address string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	b := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(answer(b[:n]), from); err != nil {
			return err
		}
	}
}

// answer is the answer to a question: RFC 1035, section 4.
func answer(question []byte) []byte {
	const head, typeA, notFound = 12, 1, 3
	end := head
	for end < len(question) && question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5 // the zero, type and class
	if end > len(question) {
		return nil
	}
	b := append([]byte{}, question[:end]...)
	b[2], b[3] = 0x81, 0x80 // an answer, with recursion
	copy(b[6:head], make([]byte, head-6))
	switch {
	case strings.HasPrefix(string(b[head+1:]), "nobody"):
		b[3] |= notFound
	case b[end-3] == typeA:
		b[7] = 1
		b = append(b, 0xc0, head, 0, typeA, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7)
	}
	return b
}

func answerConnections(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			_, _ = io.Copy(c, c) // whoever hangs up early is no reason to end
		}()
	}
}

// talk has one conversation.
func talk(connected bool, protocol, address, asking string) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, server string) (net.Conn, error) {
		return ask(ctx, asking, server)
	}}
	if !connected {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		found, err := resolver.LookupHost(ctx, host)
		if err != nil {
			return err
		}
		c, err := loose(net.JoinHostPort(found[0], port))
		if err != nil {
			return err
		}
		return converse(c)
	}
	c, err := (&net.Dialer{Resolver: resolver}).DialContext(ctx, protocol, address)
	if err != nil {
		return err
	}
	return converse(c)
}

func converse(c net.Conn) error {
	err := c.SetDeadline(time.Now().Add(within))
	if err == nil {
		_, err = c.Write([]byte("hello"))
	}
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, len("hello")))
	}
	return errors.Join(err, c.Close())
}

// ask connects to a resolver.
func ask(ctx context.Context, how, server string) (net.Conn, error) {
	if how == "loose" {
		return loose(server)
	}
	return (&net.Dialer{}).DialContext(ctx, how, server)
}

// unconnected is a socket that sends to one address without being connected.
type unconnected struct {
	net.PacketConn
	to net.Addr
}

func loose(address string) (net.Conn, error) {
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	c, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return nil, err
	}
	return unconnected{c, to}, nil
}

// Read is net.Conn.
func (u unconnected) Read(b []byte) (int, error) {
	n, _, err := u.ReadFrom(b)
	return n, err
}

// Write is net.Conn.
func (u unconnected) Write(b []byte) (int, error) { return u.WriteTo(b, u.to) }

// RemoteAddr is net.Conn.
func (u unconnected) RemoteAddr() net.Addr { return u.to }
