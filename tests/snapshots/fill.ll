; ModuleID = "snapshot.fill"
target triple = "unknown-unknown-unknown"
target datalayout = ""

define void @"atlas.kernel.fill"(ptr %"dst", i8 %"value", i64 %"len") nounwind
{
entry:
  %".5" = zext i8 %"value" to i64
  %".6" = mul i64 %".5", 72340172838076673
  %".7" = icmp uge i64 %"len", 8
  br i1 %".7", label %"entry.if", label %"entry.else"
entry.if:
  %".9" = sub i64 %"len", 8
  %".10" = getelementptr i8, ptr %"dst", i64 0
  store i64 %".6", ptr %".10", align 1
  %".12" = getelementptr i8, ptr %"dst", i64 %".9"
  store i64 %".6", ptr %".12", align 1
  %".14" = ptrtoint ptr %"dst" to i64
  %".15" = sub i64 0, %".14"
  %".16" = and i64 %".15", 7
  %"block.last" = sub i64 %"len", 64
  %".17" = icmp sle i64 %".16", %"block.last"
  br i1 %".17", label %"block.body", label %"block.end"
entry.else:
  %".51" = icmp uge i64 %"len", 4
  br i1 %".51", label %"entry.else.if", label %"entry.else.else"
entry.endif:
  ret void
block.body:
  %"block.index" = phi  i64 [%".16", %"entry.if"], [%"block.index.next", %"block.body"]
  %".19" = getelementptr i8, ptr %"dst", i64 %"block.index"
  store i64 %".6", ptr %".19", align 8
  %".21" = getelementptr i8, ptr %"dst", i64 %"block.index"
  %".22" = getelementptr i8, ptr %".21", i64 8
  store i64 %".6", ptr %".22", align 8
  %".24" = getelementptr i8, ptr %"dst", i64 %"block.index"
  %".25" = getelementptr i8, ptr %".24", i64 16
  store i64 %".6", ptr %".25", align 8
  %".27" = getelementptr i8, ptr %"dst", i64 %"block.index"
  %".28" = getelementptr i8, ptr %".27", i64 24
  store i64 %".6", ptr %".28", align 8
  %".30" = getelementptr i8, ptr %"dst", i64 %"block.index"
  %".31" = getelementptr i8, ptr %".30", i64 32
  store i64 %".6", ptr %".31", align 8
  %".33" = getelementptr i8, ptr %"dst", i64 %"block.index"
  %".34" = getelementptr i8, ptr %".33", i64 40
  store i64 %".6", ptr %".34", align 8
  %".36" = getelementptr i8, ptr %"dst", i64 %"block.index"
  %".37" = getelementptr i8, ptr %".36", i64 48
  store i64 %".6", ptr %".37", align 8
  %".39" = getelementptr i8, ptr %"dst", i64 %"block.index"
  %".40" = getelementptr i8, ptr %".39", i64 56
  store i64 %".6", ptr %".40", align 8
  %"block.index.next" = add i64 %"block.index", 64
  %".42" = icmp sle i64 %"block.index.next", %"block.last"
  br i1 %".42", label %"block.body", label %"block.end"
block.end:
  %"block.result" = phi  i64 [%".16", %"entry.if"], [%"block.index.next", %"block.body"]
  %"vector.last" = sub i64 %"len", 8
  %".44" = icmp sle i64 %"block.result", %"vector.last"
  br i1 %".44", label %"vector.body", label %"vector.end"
vector.body:
  %"vector.index" = phi  i64 [%"block.result", %"block.end"], [%"vector.index.next", %"vector.body"]
  %".46" = getelementptr i8, ptr %"dst", i64 %"vector.index"
  store i64 %".6", ptr %".46", align 8
  %"vector.index.next" = add i64 %"vector.index", 8
  %".48" = icmp sle i64 %"vector.index.next", %"vector.last"
  br i1 %".48", label %"vector.body", label %"vector.end"
vector.end:
  %"vector.result" = phi  i64 [%"block.result", %"block.end"], [%"vector.index.next", %"vector.body"]
  br label %"entry.endif"
entry.else.if:
  %".53" = sub i64 %"len", 4
  %".54" = zext i8 %"value" to i32
  %".55" = mul i32 %".54", 16843009
  %".56" = zext i8 %"value" to i32
  %".57" = mul i32 %".56", 16843009
  %".58" = getelementptr i8, ptr %"dst", i64 0
  store i32 %".55", ptr %".58", align 1
  %".60" = getelementptr i8, ptr %"dst", i64 %".53"
  store i32 %".57", ptr %".60", align 1
  br label %"entry.else.endif"
entry.else.else:
  %".63" = icmp uge i64 %"len", 2
  br i1 %".63", label %"entry.else.else.if", label %"entry.else.else.else"
entry.else.endif:
  br label %"entry.endif"
entry.else.else.if:
  %".65" = sub i64 %"len", 2
  %".66" = zext i8 %"value" to i16
  %".67" = mul i16 %".66", 257
  %".68" = zext i8 %"value" to i16
  %".69" = mul i16 %".68", 257
  %".70" = getelementptr i8, ptr %"dst", i64 0
  store i16 %".67", ptr %".70", align 1
  %".72" = getelementptr i8, ptr %"dst", i64 %".65"
  store i16 %".69", ptr %".72", align 1
  br label %"entry.else.else.endif"
entry.else.else.else:
  %".75" = icmp uge i64 %"len", 1
  br i1 %".75", label %"entry.else.else.else.if", label %"entry.else.else.else.else"
entry.else.else.endif:
  br label %"entry.else.endif"
entry.else.else.else.if:
  %".77" = sub i64 %"len", 1
  %".78" = getelementptr i8, ptr %"dst", i64 0
  store i8 %"value", ptr %".78", align 1
  %".80" = getelementptr i8, ptr %"dst", i64 %".77"
  store i8 %"value", ptr %".80", align 1
  br label %"entry.else.else.else.endif"
entry.else.else.else.else:
  br label %"entry.else.else.else.endif"
entry.else.else.else.endif:
  br label %"entry.else.else.endif"
}
