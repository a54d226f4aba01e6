package storetest

import (
	"fmt"
	"github.com/castellan-security/castellan/internal/finding"
	"net/netip"
	"reflect"
	"time"
)

// filled returns a T in which every field has a value of its own, so that a
// field that is forgotten on the way is missed.
func filled[T any](k *kit) T {
	k.Helper()
	var v T
	n := 0
	k.fill(reflect.ValueOf(&v).Elem(), &n)
	return v
}

// fill sets v, and counts the values.
func (k *kit) fill(v reflect.Value, n *int) {
	k.Helper()
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(base().Add(time.Duration(*n) * time.Second)))
		return
	case finding.Severity:
		v.SetUint(uint64(finding.High)) // written by its name
		return
	case netip.AddrPort:
		address := netip.AddrFrom4([4]byte{10, 0, byte(*n >> 8), byte(*n)})
		v.Set(reflect.ValueOf(netip.AddrPortFrom(address, uint16(1_000+*n))))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		k.fill(key, n)
		k.fill(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		k.fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			k.fill(v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" { // what has no form is not kept
				k.fill(v.Field(i), n)
			}
		}
	default:
		k.Fatalf("no value for a field of type %v: teach fill one", v.Type())
	}
}
