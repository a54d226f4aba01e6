package db

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
)

// leaves calls change for every value in v that can be another one, with a
// function that makes it one.
func leaves(v reflect.Value, path string, change func(path string, set func())) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		change(path, func() { v.Set(reflect.ValueOf(v.Interface().(time.Time).Add(time.Nanosecond))) })
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			leaves(v.Field(i), path+"."+v.Type().Field(i).Name, change)
		}
	case reflect.Pointer:
		leaves(v.Elem(), path, change)
		change(path, func() { v.SetZero() })
	case reflect.Slice:
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), change)
		}
		change(path, func() { v.Set(v.Slice(0, v.Len()-1)) })
	case reflect.String:
		change(path, func() { v.SetString(v.String() + "x") })
	case reflect.Bool:
		change(path, func() { v.SetBool(!v.Bool()) })
	case reflect.Int:
		change(path, func() { v.SetInt(v.Int() + 1) })
	case reflect.Uint8:
		change(path, func() { v.SetUint(v.Uint() + 1) })
	case reflect.Float32, reflect.Float64:
		change(path, func() { v.SetFloat(v.Float() + 1) })
	default:
		panic("teach leaves " + v.Kind().String())
	}
}

// grown fills v so that nothing in it is empty.
func grown(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				grown(v.Field(i))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		grown(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		grown(v.Index(0))
		grown(v.Index(1))
	}
}

// TestEveryFieldTellsWhetherAFindingIsAsItWas: one that does not would leave an
// old finding where a new one was stored.
func TestEveryFieldTellsWhetherAFindingIsAsItWas(t *testing.T) {
	filled := func() *finding.Vulnerability {
		v := &finding.Vulnerability{}
		grown(reflect.ValueOf(v).Elem())
		return v
	}
	var s summer
	shared, all := s.finding(filled())
	if again, same := s.finding(filled()); again != shared || same != all {
		t.Fatal("the same finding has two digests")
	}
	var paths []string
	leaves(reflect.ValueOf(filled()).Elem(), "", func(path string, _ func()) { paths = append(paths, path) })
	if len(paths) < 70 {
		t.Errorf("only %d fields were found", len(paths))
	}
	for n, path := range paths {
		v, i := filled(), 0
		leaves(reflect.ValueOf(v).Elem(), "", func(_ string, set func()) {
			if i++; i == n+1 {
				set()
			}
		})
		_, got := s.finding(v)
		inInventory := len(path) >= len(".Package.Files") && path[:len(".Package.Files")] == ".Package.Files"
		if same := got == all; same != inInventory {
			t.Errorf("%s is another: same digest %v", path, same)
		}
	}
}
