// Package vm boots Debian's kernel in QEMU and runs Go tests inside as root:
// what the machine that develops or checks Castellan cannot do itself, such as
// BPF LSM, AppArmor, other cgroup layouts and other processors.
//
// The tests that run inside are ordinary Go tests in test/vm/guest. On this
// side they are built, packed with a few kernel modules into an initial RAM
// file system whose /init becomes the test program, booted, and read back from
// the serial console as subtests. test/setup/vm.sh fetches the kernel. With
// -run TestGuestAMD64/TestSensorsTell a guest runs that test alone.
//
// It is not for tests that need a container engine (see test/docker): nothing
// but the kernel and the test program runs inside.
package vm
