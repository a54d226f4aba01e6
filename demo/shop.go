package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// Where the shop would run if this were AWS.
const (
	account = "123456789012"
	region  = "eu-central-1"
	cluster = "shop"
)

const (
	storePassword = "teapot-and-mug"
	databaseURL   = "postgres://shop:" + storePassword + "@store:5432/shop"
	credentials   = "/v2/credentials/1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1"
)

// A task is what ECS would start as one: its containers share the task's
// identity.
type task struct {
	family     string
	revision   string
	containers []container
}

// A container of the shop, with what differs from one to the next.
type container struct {
	name   string // in the task definition, of its image, and in the network
	tag    string // of its image
	memory string
	env    []string
	args   []string // of docker run
}

// confined are the settings of a service that needs nothing of root's.
var confined = []string{"--user=1000:1000", "--cap-drop=ALL", "--security-opt=no-new-privileges"}

func shop(port int, storefrontARN string) []task {
	return []task{
		{"store", "2", []container{{name: "store", tag: "2", memory: "128m",
			env: []string{"POSTGRES_PASSWORD=" + storePassword}, args: append([]string{"--read-only"}, confined...)}}},
		{"orders", "7", []container{
			{name: "api", tag: "7", memory: "96m", env: []string{"DATABASE_URL=" + databaseURL}, args: append([]string{"--read-only"}, confined...)},
			{name: "worker", tag: "7", memory: "96m", env: []string{"DATABASE_URL=" + databaseURL}, args: confined},
		}},
		{"storefront", "3", []container{{name: "storefront", tag: "3", memory: "256m",
			env: []string{"DATABASE_URL=" + databaseURL, "API_URL=http://api:8081",
				"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=" + credentials,
				"ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/" + storefrontARN[strings.LastIndexByte(storefrontARN, '/')+1:]},
			args: []string{fmt.Sprintf("--publish=127.0.0.1:%d:8080", port), "--volume=" + secrets + ":/run/secrets:ro"}}}},
		{"client", "1", []container{{name: "client", tag: "1", memory: "64m",
			env: []string{"SHOP_URL=http://storefront:8080"}, args: append([]string{"--read-only"}, confined...)}}},
	}
}

// startShop makes the network and starts every container.
func startShop(ctx context.Context, port int) error {
	if _, err := docker(ctx, "network", "create", "--label", labelShop, network); err != nil {
		return err
	}
	if err := makeSecrets(ctx); err != nil {
		return err
	}
	storefrontARN := taskARN()
	if err := startAround(ctx, storefrontARN); err != nil {
		return err
	}
	for _, t := range shop(port, storefrontARN) {
		arn := taskARN()
		if t.family == "storefront" {
			arn = storefrontARN
		}
		for _, c := range t.containers {
			if err := t.start(ctx, arn, c); err != nil {
				return fmt.Errorf("start %s: %w", c.name, err)
			}
		}
	}
	return nil
}

// makeSecrets makes the volume that the storefront mounts as ECS would mount a
// secret; the engine fills a new volume from the image's folder.
func makeSecrets(ctx context.Context) error {
	if _, err := docker(ctx, "volume", "create", "--label", labelShop, secrets); err != nil {
		return err
	}
	id, err := docker(ctx, "create", "--pull=never", "--label="+labelShop, "--network=none", "--memory=32m", "--pids-limit=16", "--volume="+secrets+":/run/secrets", "castellan-demo/storefront:3")
	if err != nil {
		return err
	}
	_, err = docker(ctx, "rm", id)
	return err
}

// startAround starts what is around the shop: the stand-in for AWS's metadata,
// and the attacker's machine. Neither has an ECS identity.
func startAround(ctx context.Context, storefrontARN string) error {
	_, err := docker(ctx, run("castellan-demo-metadata", "metadata", "32m", labelShop,
		"--cap-drop=ALL", "--cap-add=NET_ADMIN", "--cap-add=NET_BIND_SERVICE", "--read-only", "--env=TASK_ARN="+storefrontARN,
		"castellan-demo/metadata:1")...)
	if err != nil {
		return err
	}
	_, err = docker(ctx, run("castellan-demo-evil", "evil", "128m", labelShop, "castellan-demo/evil:1", "host")...)
	return err
}

// run returns the docker arguments that every container of the demo shares.
func run(name, alias, memory, label string, more ...string) []string {
	return append([]string{"run", "--detach", "--pull=never", "--name=" + name, "--label=" + label,
		"--network=" + network, "--network-alias=" + alias, "--memory=" + memory, "--memory-swap=" + memory,
		"--pids-limit=128", "--cpus=0.5", "--log-opt=max-size=1m"}, more...)
}

// start starts one container of the task, named and labelled as the ECS agent
// does it, and leads it to the metadata addresses.
func (t task) start(ctx context.Context, arn string, c container) error {
	name := fmt.Sprintf("ecs-%s-%s-%s-%s", t.family, t.revision, c.name, randomHex(10))
	args := c.args
	for _, e := range c.env {
		args = append(args, "--env="+e)
	}
	for k, v := range map[string]string{"cluster": cluster, "task-arn": arn, "task-definition-family": t.family,
		"task-definition-version": t.revision, "container-name": c.name} {
		args = append(args, "--label=com.amazonaws.ecs."+k+"="+v)
	}
	id, err := docker(ctx, run(name, c.name, c.memory, labelShop, append(args, "castellan-demo/"+c.name+":"+c.tag)...)...)
	if err != nil || c.name != "storefront" {
		return err
	}
	return leadToMetadata(ctx, id)
}

// leadToMetadata sets the routes to the metadata addresses in the network
// namespace of a container, from a container of its own that shares it.
func leadToMetadata(ctx context.Context, id string) error {
	gateway, err := docker(ctx, "inspect", "--format", `{{(index .NetworkSettings.Networks "`+network+`").IPAddress}}`, "castellan-demo-metadata")
	if err != nil {
		return err
	}
	_, err = docker(ctx, "run", "--rm", "--pull=never", "--name=castellan-demo-route", "--label="+labelShop, "--network=container:"+id,
		"--cap-drop=ALL", "--cap-add=NET_ADMIN", "--read-only", "--env=GATEWAY="+gateway, "--entrypoint=/bin/route", "castellan-demo/metadata:1")
	return err
}

func taskARN() string {
	return "arn:aws:ecs:" + region + ":" + account + ":task/" + cluster + "/" + randomHex(16)
}

// randomHex returns n random bytes as hex digits, as in the agent's names.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails, see its documentation
	return hex.EncodeToString(b)
}
