package kube

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// fullPod is a pod as large as those that real clusters have.
func fullPod(i int) *corev1.Pod {
	yes, always := true, corev1.ContainerRestartPolicyAlways
	env := make([]corev1.EnvVar, 30)
	for j := range env {
		env[j] = corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d_%d", i, j), Value: strings.Repeat("v", 40)}
	}
	ports := []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {ContainerPort: 9090}, {Name: "diameter", ContainerPort: 3868, Protocol: corev1.ProtocolSCTP}}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: fmt.Sprintf("cart-%d", i), UID: "u", ResourceVersion: "7",
			Labels:        map[string]string{"app": "cart", "pod-template-hash": "6b7f", "tier": "back"},
			Annotations:   map[string]string{"checksum/config": strings.Repeat("a", 64)},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: &metav1.FieldsV1{Raw: make([]byte, 2000)}}},
			OwnerReferences: []metav1.OwnerReference{
				{Kind: "ConfigMap", Name: "other"}, {Kind: "ReplicaSet", Name: "cart-6b7f", Controller: &yes},
			},
		},
		Spec: corev1.PodSpec{
			NodeName: "n1", Volumes: make([]corev1.Volume, 3),
			Containers: []corev1.Container{{Name: "main", Image: "registry/cart:1", Env: env, Ports: ports}},
			InitContainers: []corev1.Container{
				{Name: "once", Ports: []corev1.ContainerPort{{Name: "setup", ContainerPort: 1}}},
				{Name: "sidecar", RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "mesh", ContainerPort: 15000}}},
			},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.1.0.1", PodIPs: []corev1.PodIP{{IP: "10.1.0.1"}, {IP: "fd00::1"}},
			Conditions: make([]corev1.PodCondition, 5), ContainerStatuses: make([]corev1.ContainerStatus, 1),
		},
	}
}

func TestTrimKeepsWhatNames(t *testing.T) {
	full := fullPod(1)
	got, err := new(Config).trim(full)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := new(Config).trim(got); err != nil || !cmp.Equal(got, again) {
		t.Errorf("trimmed twice: %v %s", err, cmp.Diff(got, again))
	}
	p := got.(*corev1.Pod)
	if p.Annotations != nil || p.ManagedFields != nil || p.Spec.Volumes != nil || p.Spec.Containers[0].Env != nil || p.Status.Conditions != nil || len(p.OwnerReferences) != 1 {
		t.Errorf("kept too much: %+v", p)
	}
	want := []meta.Port{
		{Name: "http", Number: 8080, Proto: flow.ProtoTCP}, {Name: "diameter", Number: 3868, Proto: flow.ProtoSCTP}, {Name: "mesh", Number: 15000, Proto: flow.ProtoTCP},
	}
	if diff := cmp.Diff(want, namedPorts(p)); diff != "" {
		t.Error(diff)
	}
	if ownerOf(p) != ownerOf(full) || ownerOf(p) != (owner{"ReplicaSet", "cart-6b7f"}) {
		t.Errorf("owner %v", ownerOf(p))
	}
}

// BenchmarkPods tells how much memory a pod costs in the informer's store, in full and trimmed.
func BenchmarkPods(b *testing.B) {
	for name, keep := range map[string]func(any) (any, error){"full": func(o any) (any, error) { return o, nil }, "trimmed": new(Config).trim} {
		b.Run(name, func(b *testing.B) {
			const n = 5000
			for b.Loop() {
				before := heap()
				held := make([]any, n)
				for i := range held {
					held[i], _ = keep(fullPod(i)) // never fails
				}
				b.ReportMetric(float64(heap()-before)/n, "B/pod")
				runtime.KeepAlive(held)
			}
		})
	}
}

// heap is what is held now, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
