package secret_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

// TestPlantedInImages wants each secret of an image's configuration, wherever builders
// put it. § is a password.
func TestPlantedInImages(t *testing.T) {
	e := engine(t)
	step := func(s string) inventory.Image {
		return inventory.Image{History: []inventory.Step{{Instruction: s}}}
	}
	config := func(c inventory.Config) inventory.Image { return inventory.Image{Config: c} }
	for _, tc := range []struct {
		name  string
		image inventory.Image
		want  inventory.SecretSource
	}{
		{"variable", config(inventory.Config{Env: []string{"DB_PASSWORD=§"}}), inventory.InEnv},
		{"address in a variable", config(inventory.Config{Env: []string{"BROKER=amqp://shop:§@queue//"}}), inventory.InEnv},
		{"settings in a variable", config(inventory.Config{Env: []string{`SPRING_APPLICATION_JSON={"spring":{"datasource":{"password":"§"}}}`}}), inventory.InEnv},
		{"options in a variable", config(inventory.Config{Env: []string{"JAVA_TOOL_OPTIONS=-Xmx1g -Ddb.password=§"}}), inventory.InEnv},
		{"connection in a variable", config(inventory.Config{Env: []string{"ConnectionStrings__Shop=Server=db;User Id=sa;Password=§;Encrypt=true"}}), inventory.InEnv},
		{"source of MySQL in a variable", config(inventory.Config{Env: []string{"DSN=shop:§@tcp(db:3306)/shop"}}), inventory.InEnv},
		{"label", config(inventory.Config{Labels: map[string]string{"deploy.password": "§"}}), inventory.InLabel},
		{"settings in a label", config(inventory.Config{Labels: map[string]string{"traefik.http.middlewares.a.headers": "Authorization: Bearer §§"}}), inventory.InLabel},
		{"health check", config(inventory.Config{Healthcheck: []string{"CMD-SHELL", "curl -fu admin:§ http://127.0.0.1:8080/health || exit 1"}}), inventory.InCommand},
		{"health check of redis", config(inventory.Config{Healthcheck: []string{"CMD", "redis-cli", "-a", "§", "ping"}}), inventory.InCommand},
		{"health check of MySQL", config(inventory.Config{Healthcheck: []string{"CMD", "mysqladmin", "ping", "-p§"}}), inventory.InCommand},
		{"entry point", config(inventory.Config{Entrypoint: []string{"/app", "--license-key=§"}}), inventory.InCommand},
		{"command of a shell", config(inventory.Config{Cmd: []string{"sh", "-c", "PGPASSWORD=§ exec /app"}}), inventory.InCommand},
		{"argument of a build", step("RUN |1 NPM_TOKEN=§ /bin/sh -c npm ci # buildkit"), inventory.InArgument},
		{"default of an argument", step("ARG DB_PASSWORD=§"), inventory.InArgument},
		{"step that logs in", step("RUN /bin/sh -c docker login -u ci -p § registry.internal # buildkit"), inventory.InHistory},
		{"step that writes a netrc file", step(`RUN /bin/sh -c echo "machine git.internal login ci password §" > ~/.netrc`), inventory.InHistory},
		{"step that sets a user's password", step(`RUN /bin/sh -c echo 'root:§' | chpasswd`), inventory.InHistory},
		{"step that sets git's address", step(`RUN /bin/sh -c git config --global url."https://ci:§@git.internal/".insteadOf https://git.internal/`), inventory.InHistory},
		{"step that fetches", step("RUN /bin/sh -c wget --user=ci --password=§ https://repo.internal/a"), inventory.InHistory},
		{"step that sends a header", step(`RUN /bin/sh -c curl -H "Authorization: Bearer §§" https://repo.internal/a`), inventory.InHistory},
		{"step that adds a source", step(`RUN /bin/sh -c pip install --index-url https://ci:§@pypi.internal/simple app`), inventory.InHistory},
		{"step that writes settings", step(`RUN /bin/sh -c printf '[client]\nuser=root\npassword=§\n' > /root/.my.cnf`), inventory.InHistory},
		{"step that makes users of a web server", step(`RUN /bin/sh -c htpasswd -bc /etc/nginx/.htpasswd admin §`), inventory.InHistory},
		{"variable that a later step took back", step("ENV DB_PASSWORD=§"), inventory.InHistory},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := tc.image
			fill := func(s string) string { return strings.ReplaceAll(s, "§", drawn(11)) }
			for _, list := range [][]string{i.Config.Env, i.Config.Entrypoint, i.Config.Cmd, i.Config.Healthcheck} {
				for k := range list {
					list[k] = fill(list[k])
				}
			}
			for k, v := range i.Config.Labels {
				i.Config.Labels[k] = fill(v)
			}
			for k := range i.History {
				i.History[k].Instruction = fill(i.History[k].Instruction)
			}
			found, problems := e.Config(&i)
			if len(problems) > 0 || !slices.ContainsFunc(found, func(s inventory.Secret) bool {
				return s.Source == tc.want && secret.Finding(s, time.Now()).Severity >= finding.Medium
			}) {
				t.Errorf("found %v, %v", lines(found), problems)
			}
			if len(found) > 1 {
				t.Errorf("told %d times: %v", len(found), lines(found))
			}
		})
	}
}
