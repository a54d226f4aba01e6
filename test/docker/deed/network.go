package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// network are deeds on sockets; there is nothing but loopback.
var network = map[string]deed{
	"connect":             func(string) error { return talk("tcp4", "127.0.0.1:0") },
	"connect-six":         func(string) error { return refusedBy("[::1]:1", unix.EADDRNOTAVAIL, unix.ECONNREFUSED) },
	"connect-refused":     func(string) error { return refusedBy("127.0.0.1:1", unix.ECONNREFUSED) },
	"connect-unreachable": func(string) error { return refusedBy("203.0.113.7:443", unix.ENETUNREACH) },
	"listen":              func(string) error { return listenAt(7001) },
	"udp-send":            udpSend,
	"udp-connected": func(string) error {
		c, err := net.Dial("udp4", "127.0.0.1:7003")
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("hello"))
		return errors.Join(err, c.Close())
	},
	"udp-listen": func(string) error {
		c, err := net.ListenPacket("udp4", "0.0.0.0:7004")
		if err != nil {
			return err
		}
		return c.Close()
	},
	"raw-socket": func(string) error { return closed(unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)) },
	"packet-socket": func(string) error {
		return closed(unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(binary.NativeEndian.Uint16([]byte{0, 3}))))
	},
	"raw-refused": func(string) error {
		return errors.Join(unix.Setuid(1000), refused(closed(unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)), unix.EPERM))
	},
	"dns-udp":      func(tag string) error { return ask("udp4", 53, tag+".example.org") },
	"dns-tcp":      func(tag string) error { return ask("tcp4", 53, tag+".example.org") },
	"dns-odd-port": func(tag string) error { return ask("udp4", 5399, tag+".example.org") },
}

// talk listens, connects, sends five bytes there and three back.
func talk(kind, address string) error {
	l, err := net.Listen(kind, address)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		_, err = io.ReadFull(c, make([]byte, 5))
		if err == nil {
			_, err = c.Write([]byte("bye"))
		}
		served <- errors.Join(err, c.Close())
	}()
	c, err := net.Dial(kind, l.Addr().String())
	if err != nil {
		return err
	}
	_, err = c.Write([]byte("hello"))
	if err == nil {
		_, err = io.ReadAll(c)
	}
	return errors.Join(err, c.Close(), <-served, l.Close())
}

func refusedBy(address string, wanted ...error) error {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err == nil {
		return errors.Join(fmt.Errorf("%s answered", address), c.Close())
	}
	if !slices.ContainsFunc(wanted, func(w error) bool { return errors.Is(err, w) }) {
		return err
	}
	return nil
}

func listenAt(port int) error {
	l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return err
	}
	return l.Close()
}

// udpSend sends without connecting.
func udpSend(string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	err = unix.Sendto(fd, []byte("hello"), 0, &unix.SockaddrInet4{Port: 7002, Addr: [4]byte{127, 0, 0, 1}})
	return errors.Join(err, unix.Close(fd))
}

// ask asks a resolver of its own, which answers with 192.0.2.7.
func ask(kind string, port int, name string) error {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	query := question(name)
	if strings.HasPrefix(kind, "udp") {
		s, err := net.ListenPacket(kind, address)
		if err != nil {
			return err
		}
		c, err := net.Dial(kind, address)
		if err != nil {
			return err
		}
		b := make([]byte, 512)
		_, err = c.Write(query)
		n, from, err2 := s.ReadFrom(b)
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		_, err = s.WriteTo(answer(b[:n]), from)
		_, err2 = c.Read(b)
		return errors.Join(err, err2, c.Close(), s.Close())
	}
	l, err := net.Listen(kind, address)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		b := make([]byte, 2+len(query))
		_, err = io.ReadFull(c, b)
		reply := answer(b[2:])
		_, err2 := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
		served <- errors.Join(err, err2, c.Close())
	}()
	c, err := net.Dial(kind, address)
	if err != nil {
		return err
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...))
	_, err2 := io.ReadAll(c)
	return errors.Join(err, err2, <-served, c.Close(), l.Close())
}

// question is a DNS query for an address: RFC 1035, section 4.1.
func question(name string) []byte {
	b := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

func answer(query []byte) []byte {
	b := append([]byte{}, query...)
	b[2], b[3], b[7] = 0x81, 0x80, 1
	return append(b, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7)
}
