package bpf

// CallNumber returns the number of a system call on this architecture.
func CallNumber(name string) (uint32, bool) {
	n, ok := callNumbers[name]
	return n, ok
}
