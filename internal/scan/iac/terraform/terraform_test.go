package terraform_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/iac/terraform"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

func all(string) bool { return true }

// read returns the resources of a folder, by address, and what could not be read.
func read(t *testing.T, files map[string]string) (map[string]terraform.Resource, []terraform.Problem) {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	r := terraform.NewReader(fsys)
	for name := range files {
		if strings.HasSuffix(name, ".tf") || strings.HasSuffix(name, ".tf.json") || strings.HasSuffix(name, ".tfvars") {
			r.Add(name)
		}
	}
	out := map[string]terraform.Resource{}
	for _, module := range r.Resources(all) {
		for _, res := range module {
			out[res.Address] = res
		}
	}
	return out, r.Problems
}

// show writes a value as a person would; ? is unknown, with its reference.
func show(n *tree.Node) string {
	switch {
	case n == nil:
		return "absent"
	case n.Kind == tree.Unknown:
		return strings.TrimSpace("?" + n.Text + " " + n.Ref)
	case n.Kind == tree.Null:
		return "null"
	case n.Kind == tree.List:
		var parts []string
		for _, item := range n.Items {
			parts = append(parts, show(item))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case n.Kind == tree.Map:
		var parts []string
		for _, f := range n.Fields {
			parts = append(parts, f.Key+"="+show(f.Value))
		}
		if n.Open {
			parts = append(parts, "…")
		}
		return "{" + strings.Join(parts, " ") + "}"
	}
	return n.Text
}

// What expressions come to, and what is left open.
func TestExpressions(t *testing.T) {
	const around = `
variable "known" { default = "a" }
variable "list" { default = ["x", "y"] }
variable "map" { default = { one = 1, two = 2 } }
variable "given" {}
variable "secret" {
  default   = "hunter2"
  sensitive = true
}
locals {
  nested = { deep = [{ name = "n" }] }
  self   = local.self
}
data "template_file" "f" {
  template = "$${a}: $${b}"
  vars = { a = var.known, b = var.given }
}
resource "t" "r" {
  v = %s
}`
	for _, tc := range []struct{ expression, want string }{
		{`"text"`, "text"}, {`12.5`, "12.5"}, {`true`, "true"}, {`null`, "null"},
		{`var.known`, "a"}, {`var.given`, "?"}, {`var.none`, "?"}, {`var.secret`, "?"},
		{`"${var.known}-${var.given}:latest"`, "?a-${…}:latest"}, {`"${var.list}"`, "[x y]"},
		{`local.nested.deep[0].name`, "n"}, {`local.nested["deep"][0]["name"]`, "n"}, {`local.nested.deep[7]`, "?"}, {`local.self`, "?"},
		{`aws_iam_role.x.arn`, "? aws_iam_role.x"}, {`aws_iam_role.x[0].arn`, "? aws_iam_role.x"}, {`data.aws_iam_policy_document.d.json`, "? data.aws_iam_policy_document.d"},
		{`aws_subnet.s[*].id`, "? aws_subnet.s"}, {`module.m.out`, "? module.m"}, {`each.value`, "?"},
		{`var.known == "a" ? "yes" : "no"`, "yes"}, {`var.given == "a" ? "yes" : "no"`, "?"}, {`var.known != "a" || true ? 1 : 2`, "1"}, {`!false && var.given ? 1 : 2`, "?"},
		{`merge({ a = 1, b = 2 }, { b = 3 })`, "{a=1 b=3}"}, {`merge(var.given, { b = 3 })`, "{b=3 …}"}, {`merge({ a = 1 }, var.given)`, "{…}"},
		{`concat(["a"], var.list, var.given)`, "[a x y ?]"}, {`flatten([["a"], ["b", "c"]])`, "[a b c]"},
		{`jsonencode([{ "name" : "a", cpu : 1 }])`, "[{name=a cpu=1}]"}, {`jsondecode("{\"a\": [1]}")`, "{a=[1]}"}, {`jsondecode("{")`, "?"},
		{`lookup(var.map, "two", 9)`, "2"}, {`lookup(var.map, "three", 9)`, "9"}, {`element(var.list, 1)`, "y"}, {`join("-", var.list)`, "x-y"},
		{`coalesce("", "b")`, "b"}, {`try(var.known, "b")`, "a"}, {`format("%s:%d", var.known, 3)`, "a:3"}, {`format("%s:latest", var.given)`, "?${…}:latest"}, {`format("%05d", 3)`, "?"},
		{`lower("ABC")`, "abc"}, {`upper(var.known)`, "A"}, {`sha256("x")`, "?"}, {`concat(var.list...)`, "?"},
		{`[for k, v in var.map : { name = k, value = v }]`, "[{name=one value=1} {name=two value=2}]"}, {`[for v in var.list : "${v}!" if v != "x"]`, "[y!]"},
		{`{ for i, v in var.list : v => i }`, "{x=0 y=1}"}, {`[for v in var.given : v]`, "?"}, {`[for v in var.list : v if var.given]`, "[]"},
		{`file("there.txt")`, "hello"}, {`file("${path.module}/there.txt")`, "hello"}, {`file("../there.txt")`, "?"}, {`file("/etc/hostname")`, "?"}, {`templatefile("there.txt", {})`, "hello"},
		{`templatefile("t.tpl", { a = var.known, b = var.given, c = 3 })`, "?[{\"a\": \"a\", \"b\": ${…},\n\"c\": 3, \"d\": \"x-${…}\"}]"},
		{`jsondecode(templatefile("t.tpl", { a = var.known, b = var.given, c = 3 }))`, "[{a=a b=?${…} c=3 d=?x-${…}}]"},
		{`jsondecode("[\"${var.given}\", ${var.given}, \"\\\"${var.known}\"]")`, `[?${…} ?${…} "a]`},
		{`data.template_file.f.rendered`, "?a: ${…}"}, {`data.template_file.g.rendered`, "? data.template_file.g"},
		{`{ (var.known) = 1, (var.given) = 2 }`, "{a=1 …}"},
	} {
		t.Run(tc.expression, func(t *testing.T) {
			res, problems := read(t, map[string]string{"main.tf": fmt.Sprintf(around, tc.expression), "there.txt": "hello",
				"t.tpl": "[{\"a\": \"${a}\", \"b\": ${b},\n\"c\": ${c}, \"d\": \"x-${b}\"}]"})
			if got := show(res["t.r"].Body.Get("v")); got != tc.want || len(problems) > 0 {
				t.Errorf("got %s, want %s; problems %v", got, tc.want, problems)
			}
		})
	}
}

// Blocks, also those that are made, are lists of maps.
func TestBlocks(t *testing.T) {
	res, _ := read(t, map[string]string{"main.tf": "resource \"t\" \"r\" {\n  b { x = 1 }\n  b { x = 2 }\n  dynamic \"c\" {\n    for_each = var.any\n    content { y = 3 }\n  }\n}\n",
		"vars.auto.tfvars": "any = 1\n", "more.tf": "variable \"any\" { default = 2 }\ndata \"t\" \"d\" { z = var.any }\n"})
	if got := show(res["t.r"].Body); got != "{b=[{x=1} {x=2}] c=[{y=3}]}" {
		t.Errorf("got %s", got)
	}
	if got := show(res["data.t.d"].Body); got != "{z=1}" {
		t.Errorf("what a tfvars file says: %s", got)
	}
	if at := res["t.r"].Body.Get("b").Items[1].At.Start.Line; at != 3 {
		t.Errorf("second block in line %d", at)
	}
}

// Modules that call each other, and a bomb of locals, end with what is known.
func TestLimits(t *testing.T) {
	bomb := "locals {\n  l0 = [\"xxxxxxxxxxxxxxxx\"]\n"
	for i := 1; i < 50; i++ {
		bomb += fmt.Sprintf("  l%d = concat(local.l%d, local.l%d)\n", i, i-1, i-1)
	}
	bomb += "}\nresource \"t\" \"bomb\" {\n  v = local.l49\n  w = 1\n}\n"
	res, problems := read(t, map[string]string{
		"bomb/main.tf": bomb,
		"a/main.tf":    "module \"b\" {\n  source = \"../b\"\n}\nresource \"t\" \"a\" {}\n",
		"b/main.tf":    "module \"a\" {\n  source = \"../a\"\n}\nresource \"t\" \"b\" {}\n",
		"deep/main.tf": "x = " + strings.Repeat("[", 5000),
	})
	var told []string
	for _, p := range problems {
		told = append(told, p.File+": "+p.Err.Error())
	}
	if len(told) != 2 || !strings.Contains(strings.Join(told, "\n"), "deep/main.tf: nested deeper than") || !strings.Contains(strings.Join(told, "\n"), "bomb: it comes to more than") {
		t.Errorf("problems %q", told)
	}
	if res["t.a"].Body == nil || res["module.b.t.b"].Body == nil {
		t.Errorf("modules that call each other are not read: %v", res)
	}
	if res["t.bomb"].Body == nil {
		t.Error("the bomb's resource is not there")
	}
}

func TestPlan(t *testing.T) {
	n, err := tree.JSON([]byte(`{"format_version": "1.2", "planned_values": {"root_module": {"resources": [
 {"address": "t.a[\"k\"]", "mode": "managed", "type": "t", "name": "a", "values": {"known": "x", "list": [{"arn": null}], "role": null}}]}},
 "resource_changes": [{"address": "t.a[\"k\"]", "change": {"after_unknown": {"list": [{"arn": true}], "role": true, "id": true}}}],
 "configuration": {"root_module": {"resources": [{"address": "t.a", "expressions": {"role": {"references": ["aws_iam_role.r.arn", "aws_iam_role.r"]}}}]}}}`), "plan.json", finding.Position{})
	if err != nil || !terraform.IsPlan(n) {
		t.Fatal(err, "no plan")
	}
	var got []string
	for _, r := range terraform.Plan(n, all) {
		got = append(got, r.Address+" "+show(r.Body))
	}
	if diff := cmp.Diff(got, []string{`t.a["k"] {known=x list=[{arn=?}] role=? aws_iam_role.r id=?}`}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

// FuzzRead reads whatever comes: it ends, without a panic.
func FuzzRead(f *testing.F) {
	f.Add("locals {\n  a = [for k, v in { x = 1 } : \"${k}-${v}\"]\n}\nresource \"t\" \"r\" {\n  v = jsonencode(local.a)\n}\n", `{"resource": {"t": {"r": {"v": "${1 + 1}"}}}}`)
	f.Add("module \"a\" {\n  source = \"./\"\n}\n", `{"module": {"m": {"source": "./"}}}`)
	f.Add("resource \"t\" \"r\" {\n  v = <<-EOT\n    {}\n  EOT\n  dynamic \"x\" { content { y = each.key } }\n}\n", `[]`)
	f.Fuzz(func(t *testing.T, text, json string) {
		fsys := fstest.MapFS{"main.tf": {Data: []byte(text)}, "more.tf.json": {Data: []byte(json)}, "terraform.tfvars": {Data: []byte(text)}}
		r := terraform.NewReader(fsys)
		for name := range fsys {
			r.Add(name)
		}
		for _, module := range r.Resources(all) {
			for _, res := range module {
				if res.Body == nil {
					t.Fatalf("%s has no body", res.Address)
				}
			}
		}
	})
}

// Values whose parts are the same ones many times over, and texts that are read
// again and again, are paid for by what they come to.
func TestBombsOfSharedValues(t *testing.T) {
	nested := func(innermost string) string { // 2^40 parts
		text, end := "", ""
		for i := range 40 {
			text += fmt.Sprintf("[for v%d in [[%s, %s]] : ", i+1, innermost, innermost)
			innermost, end = fmt.Sprintf("v%d", i+1), end+"]"
		}
		return text + innermost + end
	}
	big := "[" + strings.Repeat("0,", 30_000) + "0]"
	for name, files := range map[string]map[string]string{
		"given to a module of a registry": {"main.tf": "module \"m\" {\n  source = \"far/away\"\n  container_definitions = " + nested(`"x"`) + "\n}\n"},
		"in the JSON form":                {"main.tf.json": `{"resource": {"t": {"r": {"v": "${` + strings.ReplaceAll(nested("1"), `"`, `\"`) + `}"}}}}`},
		"jsondecode":                      {"main.tf": "locals {\n  big = \"" + big + "\"\n}\nresource \"t\" \"r\" {\n  v = [" + strings.Repeat("jsondecode(local.big),", 20_000) + "]\n}\n"},
		"texts in the JSON form":          {"main.tf.json": `{"locals": {"big": "${1}` + strings.Repeat("x", 60_000) + `"}, "resource": {"t": {"r": {"v": [` + strings.Repeat(`"${local.big}",`, 20_000) + `1]}}}}`},
		"lower":                           {"main.tf": "locals {\n  big = \"" + strings.Repeat("X", 60_000) + "\"\n}\nresource \"t\" \"r\" {\n  v = [" + strings.Repeat("lower(local.big),", 20_000) + "]\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := read(t, files)
			if len(problems) != 1 || !problems[0].Lost {
				t.Errorf("problems %v", problems)
			}
		})
	}
}

// What is known not to be made is not there; what may be is.
func TestNone(t *testing.T) {
	res, problems := read(t, map[string]string{"main.tf": `
variable "create" { default = false }
variable "given" {}
resource "t" "zero" { count = 0 }
resource "t" "off" { count = var.create ? 1 : 0 }
resource "t" "each" { for_each = toset([]) }
resource "t" "maybe" { count = var.given ? 1 : 0 }
resource "t" "one" { count = 1 }
resource "t" "joined" { for_each = toset(concat([], [for v in ["a"] : v if var.given])) }
resource "t" "filtered" { for_each = { for k, v in { a = 1 } : k => v if var.given } }
module "off" {
  source = "./m"
  count  = 0
}
module "on" {
  source = "./m"
  create = true
}
module "far" {
  source                = "far/away"
  count                 = 0
  container_definitions = jsonencode([{ name = "a" }])
}
`, "m/main.tf": "variable \"create\" { default = false }\nresource \"t\" \"r\" {\n  count = var.create ? 1 : 0\n}\n",
		"more.tf.json": `{"resource": {"t": {"json": {"count": "${var.create ? 1 : 0}"}, "json1": {"count": 1}}}}`})
	got := slices.Sorted(maps.Keys(res))
	if diff := cmp.Diff(got, []string{"module.on.t.r", "t.filtered", "t.joined", "t.json1", "t.maybe", "t.one"}); diff != "" || len(problems) > 0 {
		t.Errorf("got, want: %s; problems %v", diff, problems)
	}
}

// Within a module path.root is the folder of who calls it.
func TestPathRoot(t *testing.T) {
	res, _ := read(t, map[string]string{"a/main.tf": "module \"m\" {\n  source = \"./m/n\"\n}\nresource \"t\" \"r\" {\n  v = file(\"${path.root}/x.txt\")\n}\n", "a/x.txt": "of the root", "a/m/n/x.txt": "of the module",
		"a/m/n/main.tf": "resource \"t\" \"r\" {\n  root = file(\"${path.root}/x.txt\")\n  module = file(\"${path.module}/x.txt\")\n  out = file(\"${path.root}/../../x.txt\")\n}\n"})
	body := res["module.m.t.r"].Body
	got := []string{show(res["t.r"].Body.Get("v")), show(body.Get("root")), show(body.Get("module")), show(body.Get("out"))}
	if diff := cmp.Diff(got, []string{"of the root", "of the root", "of the module", "?"}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}
