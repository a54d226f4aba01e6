package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The link-local addresses at which AWS answers: a task's credentials and
// metadata at the first, the instance's metadata at the second.
var (
	taskAddress     = netip.MustParseAddr("169.254.170.2")
	instanceAddress = netip.MustParseAddr("169.254.169.254")
)

// The key ids are those of the examples in AWS's documentation, so that
// nobody takes them for real.
const (
	taskCredentials     = `{"RoleArn":"arn:aws:iam::123456789012:role/shop-storefront","AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","Token":"demo","Expiration":"2038-01-19T03:14:07Z"}`
	instanceCredentials = `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAI44QH8DHBEXAMPLE","SecretAccessKey":"je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY","Token":"demo","Expiration":"2038-01-19T03:14:07Z"}`
	instanceRole        = "shop-instance"
	imdsToken           = "demo-session-token"
)

// runMetadata stands in for both addresses within its own network namespace.
// The containers of the demo come here by the route that runRoute sets; the
// addresses of the host and of its network are never touched.
func runMetadata(ctx context.Context, log *slog.Logger) error {
	for i, a := range []netip.Addr{taskAddress, instanceAddress} {
		if err := addAddress(fmt.Sprintf("lo:%d", i+1), a); err != nil {
			return err
		}
	}
	return serve(ctx, ":80", newMetadata(os.Getenv("TASK_ARN")), log)
}

// newMetadata answers as the ECS agent and version 2 of the instance's
// metadata service would.
func newMetadata(taskARN string) http.Handler {
	mux := http.NewServeMux()
	say := func(pattern, text string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(pattern, "/latest/meta-data") && r.Header.Get("X-aws-ec2-metadata-token") != imdsToken {
				http.Error(w, "a session token is needed", http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, text)
		})
	}
	say("GET /v2/credentials/{id}", taskCredentials)
	say("GET /v4/{id}/task", fmt.Sprintf(`{"Cluster":"shop","TaskARN":%q,"Family":"storefront","Revision":"3","ServiceName":"storefront","LaunchType":"EC2"}`, taskARN))
	say("PUT /latest/api/token", imdsToken)
	say("GET /latest/meta-data/iam/security-credentials/{$}", instanceRole)
	say("GET /latest/meta-data/iam/security-credentials/"+instanceRole, instanceCredentials)
	return mux
}

// runRoute leads both addresses to the gateway that it is given, in the
// network namespace it runs in.
func runRoute(context.Context, *slog.Logger) error {
	gateway, err := netip.ParseAddr(os.Getenv("GATEWAY"))
	if err != nil {
		return fmt.Errorf("read GATEWAY: %w", err)
	}
	for _, a := range []netip.Addr{taskAddress, instanceAddress} {
		if err := addRoute(a, gateway); err != nil {
			return err
		}
	}
	return nil
}

// addAddress gives the interface a second address by the old ioctls.
func addAddress(label string, addr netip.Addr) error {
	ifr, err := unix.NewIfreq(label)
	if err != nil {
		return fmt.Errorf("name interface %s: %w", label, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	for _, set := range []struct {
		request uint
		value   []byte
	}{
		{unix.SIOCSIFADDR, addr.AsSlice()},
		{unix.SIOCSIFNETMASK, net.CIDRMask(32, 32)}, // one address: the network around it is not ours
	} {
		if err := ifr.SetInet4Addr(set.value); err != nil {
			return fmt.Errorf("set address %s: %w", addr, err)
		}
		if err := unix.IoctlIfreq(fd, set.request, ifr); err != nil {
			return fmt.Errorf("set address %s: %w", addr, err)
		}
	}
	return nil
}

// addRoute adds a route to one address by netlink (RTM_NEWROUTE, rtnetlink(7)).
func addRoute(to, gateway netip.Addr) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // the answer was read
	if err := unix.Sendto(fd, newRoute(to, gateway), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("add route to %s: %w", to, err)
	}
	answer := make([]byte, 256) // an acknowledgement with our request in it
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < unix.NLMSG_HDRLEN+4 {
		return fmt.Errorf("add route to %s: no answer: %w", to, err)
	}
	if errno := int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); errno != 0 {
		return fmt.Errorf("add route to %s: %w", to, unix.Errno(-errno))
	}
	return nil
}

// newRoute returns the message: a header, the fixed part, two attributes.
func newRoute(to, gateway netip.Addr) []byte {
	order := binary.NativeEndian
	m := order.AppendUint32(nil, 0) // the length, set last
	m = order.AppendUint16(m, unix.RTM_NEWROUTE)
	m = order.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE)
	m = append(m, make([]byte, 8)...) // sequence and sender are the kernel's
	m = append(m, unix.AF_INET, 32, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0)
	for _, a := range []struct {
		kind uint16
		addr netip.Addr
	}{{unix.RTA_DST, to}, {unix.RTA_GATEWAY, gateway}} {
		m = order.AppendUint16(m, 8)
		m = order.AppendUint16(m, a.kind)
		m = append(m, a.addr.AsSlice()...)
	}
	order.PutUint32(m, uint32(len(m)))
	return m
}
