; ModuleID = "snapshot.equal"
target triple = "unknown-unknown-unknown"
target datalayout = ""

define zeroext i32 @"atlas.kernel.equal"(ptr %"a", ptr %"b", i64 %"len") nounwind
{
entry:
  %"word.last" = sub i64 %"len", 8
  %".5" = icmp sle i64 0, %"word.last"
  br i1 %".5", label %"word.body", label %"word.end"
word.body:
  %"word.index" = phi  i64 [0, %"entry"], [%"word.index.next", %"word.body"]
  %"word.value" = phi  i64 [0, %"entry"], [%".12", %"word.body"]
  %".7" = getelementptr i8, ptr %"a", i64 %"word.index"
  %".8" = load i64, ptr %".7", align 1
  %".9" = getelementptr i8, ptr %"b", i64 %"word.index"
  %".10" = load i64, ptr %".9", align 1
  %".11" = xor i64 %".8", %".10"
  %".12" = or i64 %"word.value", %".11"
  %"word.index.next" = add i64 %"word.index", 8
  %".13" = icmp sle i64 %"word.index.next", %"word.last"
  br i1 %".13", label %"word.body", label %"word.end"
word.end:
  %"word.result" = phi  i64 [0, %"entry"], [%"word.index.next", %"word.body"]
  %"word.result.1" = phi  i64 [0, %"entry"], [%".12", %"word.body"]
  %"byte.last" = sub i64 %"len", 1
  %".15" = icmp sle i64 %"word.result", %"byte.last"
  br i1 %".15", label %"byte.body", label %"byte.end"
byte.body:
  %"byte.index" = phi  i64 [%"word.result", %"word.end"], [%"byte.index.next", %"byte.body"]
  %"byte.value" = phi  i64 [%"word.result.1", %"word.end"], [%".23", %"byte.body"]
  %".17" = getelementptr i8, ptr %"a", i64 %"byte.index"
  %".18" = load i8, ptr %".17", align 1
  %".19" = getelementptr i8, ptr %"b", i64 %"byte.index"
  %".20" = load i8, ptr %".19", align 1
  %".21" = xor i8 %".18", %".20"
  %".22" = zext i8 %".21" to i64
  %".23" = or i64 %"byte.value", %".22"
  %"byte.index.next" = add i64 %"byte.index", 1
  %".24" = icmp sle i64 %"byte.index.next", %"byte.last"
  br i1 %".24", label %"byte.body", label %"byte.end"
byte.end:
  %"byte.result" = phi  i64 [%"word.result", %"word.end"], [%"byte.index.next", %"byte.body"]
  %"byte.result.1" = phi  i64 [%"word.result.1", %"word.end"], [%".23", %"byte.body"]
  %".26" = icmp eq i64 %"byte.result.1", 0
  %".27" = zext i1 %".26" to i32
  ret i32 %".27"
}
