package detect_test

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// deedEnv names the deed that this program is to do in the place of tests.
const deedEnv = "CASTELLAN_TEST_DEED"

func TestMain(m *testing.M) {
	name := os.Getenv(deedEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := deeds[name](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// deeds are what programs do in containers, in an empty folder.
var deeds = map[string]func() error{
	"ports":     ports,
	"names":     names,
	"rename":    func() error { return documents(func(p string) error { return os.Rename(p, p+".locked") }) },
	"copy":      func() error { return documents(replaced) },
	"overwrite": overwrite,
	"fork":      func() error { return shell(`f() { [ "$1" = 0 ] || { f $(($1 - 1)) & f $(($1 - 1)) & wait; }; }; f 6`) },
	"again":     again,
	"bind":      bind,
	"ordinary":  ordinary,
}

// shell runs a script; what it says is in the error.
func shell(script string) error {
	if out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// ports calls ports of this machine that hardly anybody listens at.
func ports() error {
	for port := 1; port <= 60; port++ {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
		}
	}
	return nil
}

// names asks nobody for names that carry data.
func names() error {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer c.Close()
	nobody := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53}
	for range 8 {
		data := make([]byte, 30)
		if _, err := rand.Read(data); err != nil {
			return err
		}
		query := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
		for _, label := range []string{hex.EncodeToString(data), "tunnel", "example"} {
			query = append(append(query, byte(len(label))), label...)
		}
		query = binary.BigEndian.AppendUint16(append(query, 0), 1)
		query = binary.BigEndian.AppendUint16(query, 1)
		if _, err := c.WriteTo(query, nobody); err != nil {
			return err
		}
	}
	return nil
}

// documents makes documents of several folders, and does something to each.
func documents(do func(string) error) error {
	for _, folder := range []string{"a", "b", "c", "d"} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		for i := range 15 {
			p := filepath.Join(folder, fmt.Sprint(i, ".pdf"))
			if err := os.WriteFile(p, []byte("an order"), 0o600); err != nil {
				return err
			}
			if err := do(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func replaced(p string) error {
	if err := os.WriteFile(p+".enc", []byte("na redro"), 0o600); err != nil {
		return err
	}
	return os.Remove(p)
}

// overwrite has a program of the name of one that is for that overwrite files.
func overwrite() error {
	if filepath.Base(os.Args[0]) != "shred" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return shell(fmt.Sprintf("cp '%s' ./shred && exec ./shred", self))
	}
	return documents(func(p string) error { return os.WriteFile(p, []byte("00000000"), 0o600) })
}

// again runs this program again, twice, as it was run, over six generations.
func again() error {
	const env = "CASTELLAN_TEST_GENERATION"
	generation := os.Getenv(env)
	if len(generation) == 6 {
		return nil
	}
	var all []*exec.Cmd
	for range 2 {
		c := exec.Command(os.Args[0], os.Args[1:]...)
		c.Env = append(os.Environ(), env+"="+generation+"x")
		if err := c.Start(); err != nil {
			return err
		}
		all = append(all, c)
	}
	for _, c := range all {
		if err := c.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// bind opens a port and starts a shell that reads its commands.
func bind() error {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c := exec.Command("/bin/sh")
	c.Stdin = strings.NewReader("true\n")
	return c.Run()
}

// ordinary is work that looks like deeds of attackers.
func ordinary() error {
	for range 200 { // a service that is down
		if c, err := net.Dial("tcp", "127.0.0.1:9"); err == nil {
			c.Close()
		}
	}
	err := documents(func(p string) error { // safe writing
		if err := os.WriteFile(p+".tmp", []byte("an order"), 0o600); err != nil {
			return err
		}
		return os.Rename(p+".tmp", p)
	})
	if err != nil {
		return err
	}
	return shell(`
for i in $(seq 50); do mkdir -p log/$i; echo x > log/$i/app.log; mv log/$i/app.log log/$i/app.log.1; gzip log/$i/app.log.1; done
seq 100 | xargs -P 8 -n 1 true
for i in $(seq 40); do (true; true) & done; wait
rm -r a b c d log`)
}
