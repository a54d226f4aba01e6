package kernel

import (
	"bytes"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
)

// unlimited is what version 1 says of memory without a limit, or a little less:
// it rounds to pages. Nobody has as much.
const unlimited = math.MaxInt64 >> 1

// cpu reads use, throttling and limit: cpu.stat and cpu.max of version 2,
// cpuacct.usage, cpu.stat and cpu.cfs_… of version 1.
func (c cgroups) cpu(s *asset.Sample) {
	dir, v1 := c.of("cpu")
	stat := table(dir, "cpu.stat")
	usage, throttle, unit := stat, "throttled_usec", time.Microsecond
	if v1 {
		usage, throttle, unit = nil, "throttled_time", time.Nanosecond
	}
	s.CPU = durationOf(usage, "usage_usec", unit)
	if v1 || usage == nil {
		account, isV1 := c.of("cpuacct")
		n, ok := number(account, "cpuacct.usage")
		if !isV1 || !ok {
			lack(s, "cpu_ns")
		}
		s.CPU = time.Duration(min(n, math.MaxInt64))
	}
	if _, ok := lookUp(stat, throttle); !ok {
		lack(s, "throttled_ns")
	}
	s.Throttled = durationOf(stat, throttle, unit)
	limit, ok := cpuLimit(dir, v1)
	if !ok {
		lack(s, "cpu_limit_milli")
	}
	s.CPULimit = limit
}

// durationOf reads a number of units; 0 if there is none.
func durationOf(file []byte, name string, unit time.Duration) time.Duration {
	n, _ := lookUp(file, name)
	return time.Duration(min(n, uint64(math.MaxInt64/unit))) * unit
}

// cpuLimit returns thousandths of a CPU; 0 for none.
func cpuLimit(dir string, v1 bool) (milli uint64, ok bool) {
	if dir == "" {
		return 0, false
	}
	line := readLine(dir + "/cpu.max")
	if v1 {
		line = readLine(dir+"/cpu.cfs_quota_us") + " " + readLine(dir+"/cpu.cfs_period_us")
	}
	return parseQuota(line)
}

// parseQuota reads "quota period" in microseconds; the quota is "max" (version
// 2) or -1 (version 1) for none.
func parseQuota(line string) (milli uint64, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 2 {
		return 0, false
	}
	if fields[0] == "max" || fields[0] == "-1" {
		return 0, true
	}
	quota, ok := parseUint([]byte(fields[0]))
	period, ok2 := parseUint([]byte(fields[1]))
	if !ok || !ok2 || period == 0 || quota > math.MaxUint64/1000 {
		return 0, false
	}
	return quota * 1000 / period, true
}

// memory reads use, limit and kills. Of the use, what the kernel could drop at
// once is left out: pages of files that were not used lately.
func (c cgroups) memory(s *asset.Sample) {
	dir, v1 := c.of("memory")
	use, cache, most, kills := "memory.current", "inactive_file", "memory.max", "memory.events"
	if v1 {
		use, cache, most, kills = "memory.usage_in_bytes", "total_inactive_file", "memory.limit_in_bytes", "memory.oom_control"
	}
	used, ok := number(dir, use)
	dropped, ok2 := lookUp(table(dir, "memory.stat"), cache)
	if !ok || !ok2 {
		lack(s, "memory_bytes")
	} else {
		s.Memory = used - min(used, dropped)
	}
	if s.MemoryLimit, ok = limitOf(dir, most); !ok {
		lack(s, "memory_limit_bytes")
	}
	// memory.oom_control has it since 4.13.
	if s.OOMKills, ok = lookUp(table(dir, kills), "oom_kill"); !ok {
		lack(s, "oom_kills")
	}
}

// limitOf reads a limit; 0 for none.
func limitOf(dir, name string) (uint64, bool) {
	if dir == "" {
		return 0, false
	}
	line := readLine(dir + "/" + name)
	if line == "max" {
		return 0, true
	}
	n, ok := parseUint([]byte(line))
	if n >= unlimited {
		n = 0
	}
	return n, ok
}

func (c cgroups) pids(s *asset.Sample) {
	dir, _ := c.of("pids")
	var ok bool
	if s.Pids, ok = number(dir, "pids.current"); !ok {
		lack(s, "pids")
	}
	if s.PidsLimit, ok = limitOf(dir, "pids.max"); !ok {
		lack(s, "pids_limit")
	}
}

// disk reads what went to and came from block devices: io.stat of version 2,
// blkio.throttle.io_service_bytes of version 1, with those below where there
// is such a file (since 4.10). It is empty as long as there was nothing.
func (c cgroups) disk(s *asset.Sample) {
	dir, v1 := c.of("blkio")
	names := []string{"io.stat"}
	if v1 {
		names = []string{"blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"}
	}
	for _, name := range names {
		b := table(dir, name)
		if b == nil {
			continue
		}
		s.DiskRead, s.DiskWritten = diskBytes(b)
		return
	}
	lack(s, "disk_read_bytes", "disk_written_bytes")
}

// diskBytes adds up the devices of io.stat ("8:0 rbytes=1 wbytes=2 …") or of a
// file of version 1 ("8:0 Read 1"). A device that is read through another
// counts twice, as the kernel counts it.
func diskBytes(file []byte) (read, written uint64) {
	for line := range bytes.Lines(file) {
		fields := fieldsOf(line)
		if len(fields) == 3 { // of version 1
			n, _ := parseUint([]byte(fields[2]))
			switch fields[1] {
			case "Read":
				read += n
			case "Write":
				written += n
			}
			continue
		}
		for _, field := range fields {
			name, value, _ := strings.Cut(field, "=")
			n, _ := parseUint([]byte(value))
			switch name {
			case "rbytes":
				read += n
			case "wbytes":
				written += n
			}
		}
	}
	return read, written
}

// lookUp finds the number behind a name, in a file of lines of both.
func lookUp(file []byte, name string) (uint64, bool) {
	for len(file) > 0 {
		var line []byte
		line, file, _ = bytes.Cut(file, []byte{'\n'})
		key, value, ok := bytes.Cut(line, []byte{' '})
		if ok && string(key) == name {
			return parseUint(bytes.TrimSpace(value))
		}
	}
	return 0, false
}

// interfaceBytes adds up the interfaces in /proc/PID/net/dev, without loopback:
// a name, a colon, eight numbers of what was received and eight of what was
// sent, bytes first.
func interfaceBytes(file []byte) (received, sent uint64) {
	for line := range bytes.Lines(file) {
		// A name can hold a colon: the numbers can't.
		i := bytes.LastIndexByte(line, ':')
		if i < 0 || string(bytes.TrimSpace(line[:i])) == "lo" {
			continue
		}
		const perWay = 8
		fields := fieldsOf(line[i+1:])
		if len(fields) < 2*perWay {
			continue
		}
		in, _ := parseUint([]byte(fields[0]))
		out, _ := parseUint([]byte(fields[perWay]))
		received, sent = received+in, sent+out
	}
	return received, sent
}

// openFiles returns how many files a process has open. Since 6.2 the size of
// its folder is their number; before, the names are counted, at most so many.
// A process that has ended has none.
func (h *Host) openFiles(pid string, most int) (n uint64, listed int, whole bool) {
	folder := h.inProc(pid, "fd")
	var st unix.Stat_t
	switch err := unix.Stat(folder, &st); {
	case err != nil:
		return 0, 0, err == unix.ENOENT
	case st.Size > 0:
		return uint64(st.Size), 0, true
	}
	dir, err := os.Open(folder)
	if err != nil {
		return 0, 0, os.IsNotExist(err)
	}
	defer dir.Close()
	// One more than there is room for shows that there are more.
	names, err := dir.Readdirnames(most + 1)
	if err != nil && err != io.EOF {
		return 0, 0, os.IsNotExist(err)
	}
	listed = min(len(names), most)
	return uint64(listed), listed, len(names) <= most
}
