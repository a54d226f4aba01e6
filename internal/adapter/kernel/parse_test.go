package kernel

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzStat(f *testing.F) {
	f.Add([]byte("42 (a) (b)) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 250 1000 20\n"))
	f.Add([]byte("42 (\n) Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 18446744073709551615 0"))
	f.Add([]byte(")("))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := parseStat(b)
		if !ok {
			return
		}
		if !strings.Contains(string(b), "("+s.name+")") {
			t.Errorf("name %q is not in %q", s.name, b)
		}
		if s.start%tick != 0 {
			t.Errorf("start %d is not whole ticks", s.start)
		}
	})
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte("Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\nNSpid:\t42\t7\nCapEff:\t000001ffffffffff\n"))
	f.Add([]byte("Uid:\nNSpid:\nCapEff: zz"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := parseStatus(b); s != (status{}) && !strings.Contains(string(b), ":") {
			t.Errorf("%+v from %q, which has no keys", s, b)
		}
	})
}

func FuzzCgroup(f *testing.F) {
	id := strings.Repeat("0123456789abcdef", 4)
	f.Add([]byte("12:pids:/docker/" + id + "\n0::/system.slice/docker-" + id + ".scope (deleted)\n"))
	f.Add([]byte("0::/../" + id))
	f.Fuzz(func(t *testing.T, b []byte) {
		id := containerOf(b)
		if id == "" {
			return
		}
		if len(id) != idLen || !isLowerHex(id) || !strings.Contains(string(b), id) {
			t.Errorf("container id %q from %q", id, b)
		}
	})
}

func FuzzMountinfo(f *testing.F) {
	f.Add([]byte("31 30 0:27 / /sys/fs/cgroup rw shared:10 - cgroup2 cgroup2 rw\n"))
	f.Add([]byte("1 - \n - cgroup\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if mode := cgroupMode(b); mode != "" && !strings.Contains(string(b), "cgroup") {
			t.Errorf("mode %q from %q, which has no cgroup", mode, b)
		}
	})
}

func FuzzOSRelease(f *testing.F) {
	f.Add([]byte("NAME=x\nPRETTY_NAME=\"Debian \\\"12\\\"\"\n"))
	f.Add([]byte("PRETTY_NAME='"))
	f.Add([]byte("PRETTY_NAME=\"\\"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name := prettyName(b); !utf8.ValidString(name) || strings.Contains(name, "\n") {
			t.Errorf("name %q is not one line of UTF-8", name)
		}
	})
}

func FuzzCPUList(f *testing.F) {
	f.Add("0-3,6")
	f.Add("3-0")
	f.Fuzz(func(t *testing.T, list string) {
		if n := countRanges(list); n < 0 || n > maxCPUs {
			t.Errorf("%q is %d processors", list, n)
		}
	})
}

func FuzzBTF(f *testing.F) {
	header := []byte{0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 24, 0, 0, 0, 7, 0, 0, 0}
	types := []byte{0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 32, 0, 0, 0 /* int */, 1, 0, 0, 0, 0, 0, 0, 12}
	f.Add(append(append(header, types...), "\x00hello\x00"...), uint32(btfFunc), "hello")
	f.Add([]byte{0x9f, 0xeb}, uint32(btfFunc), "")
	f.Fuzz(func(t *testing.T, b []byte, kind uint32, name string) {
		id, err := btfID(b, kind, name)
		if err == nil && (id == 0 || !strings.Contains(string(b), name)) {
			t.Errorf("%q is type %d of %d bytes", name, id, len(b))
		}
	})
}

func FuzzCommandLine(f *testing.F) {
	f.Add([]byte("nginx\x00-g\x00\xff\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		args := arguments(b)
		if len(args) > argsMost || !utf8.ValidString(strings.Join(args, "")) {
			t.Errorf("%d arguments from %q", len(args), b)
		}
	})
}
